"""Figs. 3 and 10-12: distances to S and within S', one panel for each K, with thresholds and an inset of fractions."""

import math

import click
import numpy as np

from attractors.cli.stage import Stage
from attractors.distances.detection import TYPES
from attractors.figures.style import COLOURS, SYNTHETIC, TRAINING, plt, save
from attractors.tables import read_csv


def panel(axis, rows, limits):
    """The two log-distance histograms of one K as densities, with delta_m and delta_s."""
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
    axis.set(title=f"K = {limits.K}", xscale="log", yticks=[])


@click.command(cls=Stage)
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.argument("name")
@click.option("--out", required=True, help="Path of the figure without its suffix.")
def main(folder, name, out):
    """Draw the histograms of the sweep NAME from the tables that classify.py wrote in FOLDER."""
    tables = {kind: read_csv(f"{folder}/{kind}/{name}.csv", "K") for kind in ("histograms", "thresholds", "fractions")}
    histograms = tables["histograms"]
    occupied = histograms[(histograms.to_training > 0) | (histograms.within_synthetic > 0)]
    columns = min(4, len(tables["thresholds"]))
    rows = math.ceil((len(tables["thresholds"]) + 1) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.7 * columns, 1.9 * rows), layout="constrained", squeeze=False)
    panels = iter(axes.flat)
    for limits in tables["thresholds"].itertuples():
        axis = next(panels)
        panel(axis, histograms[limits.K == histograms.K], limits)
        axis.set_xlim(occupied.distance.min() / 1.2, occupied.distance.max() * 1.5)
    inset = next(panels)
    for kind in TYPES:
        inset.plot(tables["fractions"].K, tables["fractions"][kind], "o-", ms=2, lw=1, color=COLOURS[kind], label=kind)
    inset.set(xscale="log", ylim=(0, 1.02), title="fractions of S'", xlabel="K")
    inset.legend(fontsize=7)
    for axis in panels:
        axis.axis("off")
    for axis in axes[-1]:
        axis.set_xlabel(axis.get_xlabel() or "distance")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=8)
    click.echo(f"{save(figure, out)}: distance histograms of {name} at {len(tables['thresholds'])} sizes")


if __name__ == "__main__":
    main()
