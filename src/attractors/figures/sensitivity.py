"""How the fractions depend on the thresholds: the spurious fraction at each K for every delta_m and delta_s."""

from collections.abc import Iterator

import click
import numpy as np

from attractors.arrays import read_arrays
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, drawing, grid, log_scale, save, share
from attractors.report.words import Table, percent
from attractors.results.run import Run, fractions_below, scaled_spurious
from attractors.tables import read_csv

SCALES = (0.5, 0.75, 1, 1.5, 2)


def findings(run: Run) -> Iterator[Table]:
    """Yield the spurious peak of each sweep where both thresholds are scaled together at every K."""
    rows = []
    for name in run.peaks:
        path, limits = run.metrics / "counts" / f"{name}.safetensors", run.table("thresholds", name)
        if path.is_file():
            arrays, _ = read_arrays(path, "log10_edges", "counts")
            shares = [scaled_spurious(arrays, limits, scale) for scale in SCALES]
            peaks = [f"{percent(share.max())} at K = {limits.K[int(share.argmax())]}" for share in shares]
            rows.append([name, *peaks])
    if rows:
        columns = ("sweep", *(f"x {scale:g}" for scale in SCALES))
        yield Table("The spurious peak, with both thresholds multiplied at every K", columns, rows)


FIGURE = Figure(
    __name__, "Not in the paper", "Do the conclusions depend on the thresholds?",
    "The paper gives the ranges of its thresholds (Table 2) and no sensitivity.",
    stages=("classify",), pictures=("sensitivity/{}",), findings=findings,
)


@drawing
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.argument("name")
def main(folder: str, name: str, outs: tuple[str, ...]) -> None:
    """Draw the spurious fraction of the sweep NAME over both thresholds from what classify.py wrote in FOLDER."""
    arrays, _ = read_arrays(f"{folder}/counts/{name}.safetensors", "sizes", "log10_edges", "counts")
    thresholds = read_csv(f"{folder}/thresholds/{name}.csv", "K", "delta_m", "delta_s")
    edges = 10 ** arrays["log10_edges"]
    shown = (edges >= 0.03 * thresholds.delta_m.median()) & (edges <= 10 * thresholds.delta_m.median())
    figure, axes = grid(len(thresholds) + 1, 1.3, 1.05, right=0.1, below=0.6)
    drawn, peak, columns = axes.flat[: len(thresholds)], axes.flat[len(thresholds)], axes.shape[1]
    share(drawn, columns)
    spurious = [fractions_below(counts)[1][np.ix_(shown, shown)] for counts in arrays["counts"]]
    top = max(part.max() for part in spurious) or 1
    for axis, limits, part in zip(drawn, thresholds.itertuples(), spurious, strict=True):
        mesh = axis.pcolormesh(edges[shown], edges[shown], part.T, vmin=0, vmax=top, cmap="cividis", rasterized=True)
        axis.plot(limits.delta_m, limits.delta_s, "+", color="white", ms=9, mew=1.5)
        axis.set_title(f"K = {limits.K}")
    log_scale(drawn[0], xscale="log", yscale="log")
    for axis in drawn[-columns:]:
        axis.set_xlabel(r"$\delta_m$")
    for axis in drawn[::columns]:
        axis.set_ylabel(r"$\delta_s$")
    figure.colorbar(mesh, ax=axes, label="spurious fraction", shrink=0.5, pad=0.02, anchor=(0, 1))
    for scale, style in ((0.5, ":"), (0.75, "--"), (1, "-"), (1.5, "-.")):
        shares = scaled_spurious(arrays, thresholds, scale)
        peak.plot(thresholds.K, shares, style, color=COLOURS["spurious"], lw=1.2, label=f"both x {scale:g}")
    peak.set(xlabel="K", title="spurious fraction")
    log_scale(peak, xscale="log")
    peak.legend(loc="upper left", bbox_to_anchor=(1, 1))
    click.echo(f"{save(figure, outs)}: the spurious fraction over delta_m and delta_s at {len(thresholds)} sizes")
