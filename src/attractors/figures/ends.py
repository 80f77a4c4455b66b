"""Where repeated denoising leads samples of each type: do spurious samples stay, or do they end at training images?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from attractors.cli.stage import metrics_option
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, COLUMN, MARKERS, drawing, log_axis, panels, save
from attractors.report.words import Table
from attractors.results.run import Run
from attractors.tables import read_csv

TITLES = {"stayed": "stay within delta_m of where they were", "at_training": "end within delta_m of a training image",
          "moving": "still move after the last step"}


def findings(run: Run) -> Iterator[Table]:
    """Yield, at the K with the most spurious samples, which shares of each type stay and end at training images."""
    rows = []
    for name, peak in run.peaks.items():
        if (table := run.table("ends", name)) is not None:
            means = table[peak.K == table.K].groupby("type")[[*TITLES]].mean()
            rows += [[name, f"{peak.K:.0f}", kind, *(f"{value:.1%}" for value in row)] for kind, row in
                     zip(means.index, means.to_numpy(), strict=True)]
    if rows:
        columns = ("sweep", "K", "type", *TITLES.values())
        yield Table("Samples denoised again and again, at the spurious peak", columns, rows)


FIGURE = Figure(
    __name__, "Not in the paper", "Do spurious samples stay when they are denoised again and again?",
    "Spurious patterns are local minima of the energy, with basins of their own (Fig. 1A); the paper does not iterate.",
    stages=("census", "states_table"), pictures=("ends/{}",), tables=("ends/{}", "attractors/{}"), findings=findings,
)


@drawing
@click.argument("name")
@metrics_option
def main(name: str, metrics: Path, outs: tuple[str, ...]) -> None:
    """Draw METRICS/ends/NAME.csv: the mean over replicates of each share, with a point for each replicate."""
    table = read_csv(f"{metrics}/ends/{name}.csv", "K", *TITLES)
    figure, axes = panels(3, 1, COLUMN, 6)
    axes = axes[:, 0]
    for axis, (column, words) in zip(axes, TITLES.items(), strict=True):
        for kind, part in table[table.n >= 5].groupby("type"):
            axis.plot(part.K, part[column], MARKERS[kind], ms=3, mfc="none", alpha=0.6, color=COLOURS[kind])
            mean = part.groupby("K")[column].mean()
            axis.plot(mean.index, mean, "-", lw=1.5, color=COLOURS[kind], label=f"{kind} samples")
        log_axis(axis)
        axis.set(title=words, ylabel="share of samples", ylim=(-0.03, 1.03))
    axes[0].legend()
    click.echo(f"{save(figure, outs)}: ends of denoising of {name} at {table.K.nunique()} sizes")
