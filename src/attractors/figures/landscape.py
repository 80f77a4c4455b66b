"""Log-volume, critical time and energy of every measured sample against its two distances, without any threshold."""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from attractors.cli.stage import data_option
from attractors.figures.registry import Figure
from attractors.figures.style import Axes, drawing, grid, log_scale, save
from attractors.report.words import Table
from attractors.results.joined import estimate
from attractors.results.measured import Measured, measured, measured_sizes
from attractors.results.run import Run

WORDS = {
    "log_volume": "log-volume of the basin", "t_c": "critical time, steps", "energy": "energy above training images",
}
AXES = ("distance to S", "distance within S'")
FEWEST = 8  # samples in a bin of a curve


def curve(distances: np.ndarray, values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted means of `values` in bins of log-distance, ten to the decade: (distances, means), [bins] each.

    distances, values, weights: [n]. A mean estimates that over all samples of S' in its bin, and is placed at the mean
    of their log-distances. Bins with fewer than FEWEST samples are left out.
    """
    logs = np.log10(np.maximum(distances.astype(np.float64), 1e-9))
    bins, pairs = np.floor(10 * logs), np.stack([logs, values], 1)
    members = [bins == number for number in np.unique(bins)]
    means = [estimate(pairs[rows], weights[rows])[0] for rows in members if rows.sum() >= FEWEST]
    places, heights = np.reshape(means, (-1, 2)).T
    return 10**places, heights


def findings(run: Run) -> Iterator[str | Table]:
    """Rank correlations of each quantity with both distances at the spurious peak, among samples drawn uniformly."""
    from scipy.stats import spearmanr

    rows = []
    for name, peak in run.peaks.items():
        size = int(peak.K)
        found = measured(run, name, size) if (run.data / "neighbours" / name).is_dir() else {}
        for quantity, part in found.items():
            drawn = part.uniform & np.isfinite(part.values)
            distances = [axis[part.numbers[drawn]] for axis in run.distances(name, size)]
            if drawn.sum() > 2:
                correlations = [f"{spearmanr(axis, part.values[drawn]).statistic:.2f}" for axis in distances]
                rows.append([name, f"{size}", WORDS[quantity], f"{drawn.sum()}", *correlations])
    if rows:
        columns = ("sweep", "K", "quantity", "samples drawn uniformly", *(f"with the {axis}" for axis in AXES))
        yield Table("Rank correlations where spurious samples are most frequent", columns, rows)


FIGURE = Figure(
    __name__, "Not in the paper", "The landscape against both distances, without thresholds",
    "The paper compares types of samples (Figs. 4B and 6), which depend on its thresholds.",
    stages=("neighbours", "basin", "energy"), pictures=("landscape/{}",), findings=findings,
)


def draw(line: list[Axes], quantity: str, runs: dict[int, tuple[Measured, tuple[np.ndarray, np.ndarray]]]) -> None:
    """One quantity: every sample in the plane of its distances, and a curve for each K against either distance.

    runs: {K: (the quantity, the two distances of the samples that have it, [n] each)}.
    """
    from matplotlib import colormaps

    plane, *curves = line
    together = [np.concatenate(parts) for parts in zip(*((*d, part.values) for part, d in runs.values()), strict=True)]
    order = np.random.default_rng(0).permutation(len(together[0]))  # so that no K hides another
    low, high = np.quantile(together[2], [0.02, 0.98])
    image = plane.scatter(
        *(values[order] for values in together[:2]), c=together[2][order], s=4, lw=0, cmap="viridis", vmin=low,
        vmax=high, rasterized=True,
    )
    plane.figure.colorbar(image, ax=plane, extend="both")
    plane.set(xlabel=AXES[0], ylabel=AXES[1], title=WORDS[quantity])
    log_scale(plane, xscale="log", yscale="log")
    colours = colormaps["plasma"](np.linspace(0, 0.85, len(runs)))
    for number, (axis, label) in enumerate(zip(curves, AXES, strict=True)):
        for colour, (size, (part, distances)) in zip(colours, runs.items(), strict=True):
            axis.plot(distances[number], part.values, ".", ms=3, mew=0, alpha=0.3, color=colour, rasterized=True)
            axis.plot(*curve(distances[number], part.values, part.weights), lw=1.4, color=colour, label=f"{size}")
        axis.set(xlabel=label, ylabel=WORDS[quantity])
        log_scale(axis, xscale="log")


@drawing
@click.argument("name")
@data_option
def main(name: str, data: Path, outs: tuple[str, ...]) -> None:
    """Draw what was measured of every sample of the sweep NAME against its distances to S and within S'.

    Colours are continuous, and curves are means over bins of distance: nothing here depends on delta_m or delta_s.
    """
    run = Run(Path("metrics"), data=data)
    found = {quantity: {} for quantity in WORDS}
    for size in measured_sizes(run, name):
        distances = run.distances(name, size)
        for quantity, part in measured(run, name, size).items():
            known = np.isfinite(part.values)
            if known.any():
                kept = Measured(*(values[known] for values in part))
                found[quantity][size] = kept, tuple(axis[kept.numbers] for axis in distances)
    found = {quantity: runs for quantity, runs in found.items() if runs}
    if not found:
        raise ValueError(f"{data}/basin/{name}, {data}/energy/{name}: no measurements")
    figure, axes = grid(3 * len(found), 3.1, 2.3, between=0.95, columns=3)
    for line, (quantity, runs) in zip(axes, found.items(), strict=True):
        draw(list(line), quantity, runs)
    axes[0, 1].set_title(f"{name}: every measured sample, and means over bins of distance")
    axes[0, 1].legend(title="K", fontsize=6, title_fontsize=7, ncols=2)
    count = sum(len(part.values) for part, _ in next(iter(found.values())).values())
    click.echo(f"{save(figure, outs)}: {', '.join(found)} of {count} samples without thresholds")
