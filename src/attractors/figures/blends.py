"""Which samples lie near blends of training images, by type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from attractors.cli.stage import metrics_option
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, COLUMN, drawing, log_axis, panels, save
from attractors.report.words import Table
from attractors.results.run import Run
from attractors.tables import read_csv

GROUPS = {"spurious": "spurious samples", "generalized": "generalized samples", "held_out": "images outside S"}


def findings(run: Run) -> Iterator[Table]:
    """Yield, at the spurious peak, which shares of each type are near blends of two and of three training images."""
    rows = []
    for name, peak in run.peaks.items():
        if (table := run.table("blends", name)) is not None:
            means = table[peak.K == table.K].groupby(["against", "type"])[["training", "two", "three", "other"]].mean()
            rows += [[name, f"{peak.K:.0f}", kind, "S" if against == "S" else "other images",
                      *(f"{value:.1%}" for value in row)]
                     for (against, kind), row in zip(means.index, means.to_numpy(), strict=True)]
    if rows:
        columns = ("sweep", "K", "type", "blends of", "near one image", "near a blend of two", "of three", "neither")
        yield Table("Samples within delta_m of blends, at the spurious peak, means over replicates", columns, rows)


FIGURE = Figure(
    __name__, "Not in the paper", "Are spurious samples blends of training images?",
    "Spurious states may or may not be mixtures of memories; they arise where the mixing of training data begins.",
    stages=("states_table",), pictures=("blends/{}",), tables=("blends/{}",), findings=findings, supplement=True,
)


@drawing
@click.argument("name")
@metrics_option
def main(name: str, metrics: Path, outs: tuple[str, ...]) -> None:
    """Draw METRICS/blends/NAME.csv: shares near blends of two or three images of S, and of as many other images."""
    table = read_csv(f"{metrics}/blends/{name}.csv", "K", "two", "three")
    table["blend"] = table.two + table.three
    figure, axes = panels(3, 1, COLUMN, 6)
    axes = axes[:, 0]
    for axis, (kind, words) in zip(axes, GROUPS.items(), strict=True):
        for against, style, label in (("S", "o-", "images of S"), ("others", "s:", "as many other images")):
            part = table[(table.type == kind) & (table.against == against) & (table.n >= 5)]
            if len(part):
                axis.plot(part.K, part.blend, style[0], ms=3, mfc="none", color=COLOURS.get(kind, "black"))
                mean = part.groupby("K").blend.mean()
                axis.plot(mean.index, mean, style[1:], color=COLOURS.get(kind, "black"), label=f"of {label}")
        log_axis(axis)
        axis.set(title=words, ylabel="share of samples", ylim=(-0.03, 1.03))
        axis.legend(title="within delta_m of a blend of two or three")
    click.echo(f"{save(figure, outs)}: blends of {name} at {table.K.nunique()} sizes")
