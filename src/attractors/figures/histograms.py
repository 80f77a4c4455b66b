"""Figs. 3 and 10-12: distances to S and within S', one panel for each K, with thresholds and an inset of fractions."""

from collections.abc import Iterator
from typing import Any

import click
import numpy as np
import pandas as pd

from attractors.distances.detection import TYPES
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
            own = limits.K[limits[f"{column}_source"] == "valley"]
            among = f"{len(own)} of {len(limits)}: {', '.join(map(str, own))}" if len(own) else f"none of {len(limits)}"
            rows.append([name, f"{peak.K:.0f}", column, f"{at[column]:.3g}", source, *valley, among])
    if rows:
        columns = ("sweep", "K", "threshold", "distance", "from", "95% interval", "depth, of the lower peak", "p",
                   "sizes K with a valley of their own")
        yield Table("Thresholds where spurious samples are most frequent", columns, rows)


FIGURE = Figure(
    __name__, "3, 10-12", "Distances to S and within S', and the thresholds",
    "Both histograms have two peaks, and the thresholds delta_m and delta_s, chosen by eye for every K, lie in "
    "the valley between them.",
    stages=("classify",), pictures=("histograms/{}",), tables=("histograms/{}", "thresholds/{}"), findings=findings,
)


def panel(axis: Axes, rows: pd.DataFrame, limits: Any) -> None:
    """Draw the two log-distance histograms of one K as densities, with delta_m and delta_s."""
    width = np.log10(rows.distance.iloc[1] / rows.distance.iloc[0])
    for column, colour, label in (
        ("within_synthetic", SYNTHETIC, "to nearest other sample in S'"),
        ("to_training", TRAINING, "to nearest training image in S"),
    ):
        density = rows[column] / (rows[column].sum() * width)
        axis.fill_between(rows.distance, density, step="mid", color=colour, alpha=0.55, lw=0, label=label)
    spacing = rows.training_spacing / (rows.training_spacing.sum() * width)
    axis.step(rows.distance, spacing, where="mid", color="black", lw=0.6, label="between training images")
    axis.axvline(limits.delta_m, color=COLOURS["memorized"], lw=1.2, label=r"$\delta_m$")
    axis.axvline(limits.delta_s, color=COLOURS["spurious"], lw=1.2, ls="--", label=r"$\delta_s$")
    axis.set(title=f"K = {limits.K}", yticks=[])


@drawing
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.argument("name")
def main(folder: str, name: str, outs: tuple[str, ...]) -> None:
    """Draw the histograms of the sweep NAME from the tables that classify.py wrote in FOLDER."""
    tables = {kind: read_csv(f"{folder}/{kind}/{name}.csv", "K") for kind in ("histograms", "thresholds", "fractions")}
    histograms = tables["histograms"]
    occupied = histograms[(histograms.to_training > 0) | (histograms.within_synthetic > 0)]
    count = len(tables["thresholds"])
    figure, axes = grid(count + 1, 2.5, 1.4, top=0.6)
    drawn, inset = axes.flat[:count], axes.flat[count]
    share(drawn, axes.shape[1], y=False)
    for axis, limits in zip(drawn, tables["thresholds"].itertuples(), strict=True):
        panel(axis, histograms[limits.K == histograms.K], limits)
    log_scale(drawn[0], xscale="log")
    drawn[0].set_xlim(occupied.distance.min() / 1.2, occupied.distance.max() * 1.5)
    for axis in drawn[-axes.shape[1] :]:
        axis.set_xlabel("distance")
    for kind in TYPES:
        inset.plot(tables["fractions"].K, tables["fractions"][kind], "o-", ms=2, lw=1, color=COLOURS[kind], label=kind)
    inset.set(ylim=(0, 1.02), title="fractions of S'", xlabel="K")
    log_scale(inset, xscale="log")
    inset.legend(fontsize=7)
    handles, labels = drawn[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=5, fontsize=8)
    click.echo(f"{save(figure, outs)}: distance histograms of {name} at {count} sizes")
