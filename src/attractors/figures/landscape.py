"""Log-volume, critical time and energy of every measured sample against its two distances, without any threshold."""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from attractors.cli.stage import data_option
from attractors.figures.registry import Figure
from attractors.figures.style import COLUMN, Axes, drawing, legend_below, log_scale, panels, save
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
        quantities = measured(run, name, size) if (run.data / "neighbours" / name).is_dir() else {}
        for quantity, part in quantities.items():
            drawn = part.uniform & np.isfinite(part.values)
            distances = [axis[part.numbers[drawn]] for axis in run.distances(name, size)]
            if drawn.sum() > 2:
                correlations = [f"{spearmanr(axis, part.values[drawn]).statistic:.2f}" for axis in distances]
                rows.append([name, f"{size}", WORDS[quantity], f"{drawn.sum()}", *correlations])
    if rows:
        columns = ("sweep", "K", "quantity", "samples drawn uniformly", *(f"with the {axis}" for axis in AXES))
        yield Table("Rank correlations where spurious samples are most frequent", columns, rows)


FIGURE = Figure(
    __name__, "Not in the paper", "Do basins and energies change with distance, without any threshold?",
    "The paper compares types of samples (Figs. 4B and 6), which depend on its thresholds.",
    stages=("neighbours", "basin", "energy"), pictures=("landscape/{}",), findings=findings, supplement=True,
)


def draw(line: list[Axes], quantity: str, runs: dict[int, tuple[Measured, tuple[np.ndarray, np.ndarray]]]) -> None:
    """One quantity: every sample, and a curve for each K, against either distance.

    runs: {K: (the quantity, the two distances of the samples that have it, [n] each)}.
    """
    from matplotlib import colormaps

    low, high = np.quantile(np.concatenate([part.values for part, _ in runs.values()]), [0.005, 0.995])
    colours = colormaps["plasma"](np.linspace(0, 0.85, len(runs)))
    for number, (axis, label) in enumerate(zip(line, AXES, strict=True)):
        for colour, (size, (part, distances)) in zip(colours, runs.items(), strict=True):
            axis.plot(distances[number], part.values, ".", ms=3, mew=0, alpha=0.3, color=colour, rasterized=True)
            axis.plot(*curve(distances[number], part.values, part.weights), lw=1.4, color=colour, zorder=3,
                      label=f"{size}")
        axis.set(xlabel=label, ylim=(low - 0.05 * (high - low), high + 0.05 * (high - low)))
        log_scale(axis, xscale="log")
    line[0].set_ylabel(WORDS[quantity])


@drawing
@click.argument("name")
@data_option
def main(name: str, data: Path, outs: tuple[str, ...]) -> None:
    """Draw what was measured of every sample of the sweep NAME against its distances to S and within S'.

    Colours are continuous, and curves are means over bins of distance: nothing here depends on delta_m or delta_s.
    """
    run = Run(Path("metrics"), data=data)
    measurements = {quantity: {} for quantity in WORDS}
    for size in measured_sizes(run, name):
        distances = run.distances(name, size)
        for quantity, part in measured(run, name, size).items():
            known = np.isfinite(part.values)
            if known.any():
                kept = Measured(*(values[known] for values in part))
                measurements[quantity][size] = kept, tuple(axis[kept.numbers] for axis in distances)
    measurements = {quantity: runs for quantity, runs in measurements.items() if runs}
    if not measurements:
        raise ValueError(f"{data}/basin/{name}, {data}/energy/{name}: no measurements")
    figure, axes = panels(len(measurements), 2, COLUMN, 1.7 * len(measurements) + 0.9, sharey="row")
    for line, (quantity, runs) in zip(axes, measurements.items(), strict=True):
        draw(list(line), quantity, runs)
    legend_below(figure, axes[0, 0], "K; points: samples, lines: means over bins", 4, columnspacing=1)
    count = sum(len(part.values) for part, _ in next(iter(measurements.values())).values())
    click.echo(f"{save(figure, outs)}: {', '.join(measurements)} of {count} samples without thresholds")
