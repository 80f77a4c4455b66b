"""Figs. 3 and 10-12: distances to S and within S', one panel for each K, mirrored, with thresholds."""

from collections.abc import Iterator
from typing import Any

import click
import numpy as np
import pandas as pd

from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, SYNTHETIC, TRAINING, Axes, drawing, grid, log_scale, save, share
from attractors.report.words import Table
from attractors.results.run import Run
from attractors.tables import read_csv


def findings(run: Run) -> Iterator[Table]:
    """Yield the thresholds at the spurious peak, their source, and the K at which each threshold has a valley."""
    rows = []
    for name, peak in run.peaks.items():
        limits = run.table("thresholds", name)
        at = limits.loc[peak.K == limits.K].iloc[0]
        for column in ("delta_m", "delta_s"):
            source, valley = at[f"{column}_source"], ["", "", ""]
            if source == "valley":
                low, high, depth, p = (at[f"{column}_valley_{key}"] for key in ("low", "high", "depth", "p_value"))
                valley = [f"{low:.3g} to {high:.3g}", f"{depth:.2f}", f"{p:.2g}"]
            sizes = limits.K[limits[f"{column}_source"] == "valley"].astype(str)
            among = f"{len(sizes)} of {len(limits)}: {', '.join(sizes)}" if len(sizes) else f"none of {len(limits)}"
            rows.append([name, f"{peak.K:.0f}", column, f"{at[column]:.3g}", source, *valley, among])
    if rows:
        columns = ("sweep", "K", "threshold", "distance", "from", "95% interval", "depth, of the lower peak", "p",
                   "sizes K with a valley of their own")
        yield Table("Thresholds where spurious samples are most frequent", columns, rows)


FIGURE = Figure(
    __name__, "3, 10-12", "Do distances fall into two groups, with the thresholds between them?",
    "Both histograms have two peaks, and the thresholds delta_m and delta_s, chosen by eye for every K, lie in "
    "the valley between them.",
    stages=("classify",), pictures=("histograms/{}",), tables=("histograms/{}", "thresholds/{}"), findings=findings,
)


def panel(axis: Axes, rows: pd.DataFrame, limits: Any) -> float:
    """Draw the log-distance histograms of one K as densities, to S upwards with delta_m, within S' downwards with
    delta_s. Return the largest density of the two.
    """
    width, top = np.log10(rows.distance.iloc[1] / rows.distance.iloc[0]), 0.0
    for sign, column, colour, label, kind, delta in (
        (1, "to_training", TRAINING, "up: to nearest in S", "memorized", "m"),
        (-1, "within_synthetic", SYNTHETIC, "down: to nearest in S'", "spurious", "s"),
    ):
        density = rows[column] / (rows[column].sum() * width)
        axis.fill_between(rows.distance, sign * density, step="mid", color=colour, alpha=0.7, lw=0, label=label)
        ends = (0.5, 1) if sign > 0 else (0, 0.5)
        axis.axvline(getattr(limits, f"delta_{delta}"), *ends, color=COLOURS[kind], lw=1.5, label=rf"$\delta_{delta}$")
        top = max(top, density.max())
    spacing = rows.training_spacing / (rows.training_spacing.sum() * width)
    axis.step(rows.distance, spacing, where="mid", color="black", lw=0.6, label="between images of S, cut")
    axis.set_title(f"K = {limits.K}")
    return top


@drawing
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.argument("name")
def main(folder: str, name: str, outs: tuple[str, ...]) -> None:
    """Draw the histograms of the sweep NAME from the tables that classify.py wrote in FOLDER."""
    histograms, thresholds = (read_csv(f"{folder}/{kind}/{name}.csv", "K") for kind in ("histograms", "thresholds"))
    occupied = histograms[(histograms.to_training > 0) | (histograms.within_synthetic > 0)]
    figure, axes = grid(len(thresholds), 0.82, 0.85, top=0.75, between=0.12, below=0.25, columns=3)
    drawn = axes.flat[: len(thresholds)]
    share(drawn, axes.shape[1])
    top = max(panel(axis, histograms[limits.K == histograms.K], limits)
              for axis, limits in zip(drawn, thresholds.itertuples(), strict=True))
    log_scale(drawn[0], xscale="log")
    drawn[0].set(xlim=(occupied.distance.min() / 1.2, occupied.distance.max() * 1.5), ylim=(-1.05 * top, 1.05 * top))
    drawn[0].yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    figure.supxlabel("distance", fontsize=8)
    figure.supylabel("samples per decade of distance, as a share", fontsize=8)
    figure.legend(*drawn[0].get_legend_handles_labels(), loc="upper center", ncols=2, columnspacing=1)
    click.echo(f"{save(figure, outs)}: distance histograms of {name} at {len(thresholds)} sizes")
