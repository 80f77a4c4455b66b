"""How the fractions depend on the thresholds: the spurious fraction at each K for every delta_m and delta_s."""

import math

import click
import numpy as np

from attractors.arrays import read_arrays
from attractors.cli.stage import Stage
from attractors.figures.style import COLOURS, plt, save
from attractors.results.run import fractions_below, scaled_spurious
from attractors.tables import read_csv


@click.command(cls=Stage)
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.argument("name")
@click.option("--out", required=True, help="Path of the figure without its suffix.")
def main(folder, name, out):
    """Draw the spurious fraction of the sweep NAME over both thresholds from what classify.py wrote in FOLDER."""
    arrays, _ = read_arrays(f"{folder}/counts/{name}.safetensors", "sizes", "log10_edges", "counts")
    thresholds = read_csv(f"{folder}/thresholds/{name}.csv", "K", "delta_m", "delta_s")
    edges = 10 ** arrays["log10_edges"]
    shown = (edges >= 0.03 * thresholds.delta_m.median()) & (edges <= 10 * thresholds.delta_m.median())
    columns = min(4, len(thresholds))
    rows = math.ceil((len(thresholds) + 1) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.7 * columns, 2.3 * rows), layout="constrained", squeeze=False)
    panels = iter(axes.flat)
    spurious = [fractions_below(counts)[1] for counts in arrays["counts"]]
    top = max(s[np.ix_(shown, shown)].max() for s in spurious) or 1
    for number, (limits, share) in enumerate(zip(thresholds.itertuples(), spurious, strict=True)):
        axis = next(panels)
        mesh = axis.pcolormesh(
            edges[shown], edges[shown], share[np.ix_(shown, shown)].T, vmin=0, vmax=top, cmap="cividis", rasterized=True
        )
        axis.plot(limits.delta_m, limits.delta_s, "+", color="white", ms=9, mew=1.5)
        axis.set(xscale="log", yscale="log", title=f"K = {limits.K}")
        if number % columns == 0:
            axis.set_ylabel(r"$\delta_s$")
        if number + columns >= len(thresholds):
            axis.set_xlabel(r"$\delta_m$")
    figure.colorbar(mesh, ax=axes, label="spurious fraction", shrink=0.5)
    peak = next(panels)
    for scale, style in ((0.5, ":"), (0.75, "--"), (1, "-"), (1.5, "-.")):
        shares = scaled_spurious(arrays, thresholds, scale)
        peak.plot(thresholds.K, shares, style, color=COLOURS["spurious"], lw=1.2, label=f"both x {scale:g}")
    peak.set(xscale="log", xlabel="K", title="spurious fraction")
    peak.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1)).set_in_layout(False)
    for axis in panels:
        axis.axis("off")
    click.echo(f"{save(figure, out)}: the spurious fraction over delta_m and delta_s at {len(thresholds)} sizes")


if __name__ == "__main__":
    main()
