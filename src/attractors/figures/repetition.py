"""How often samples that are no copies repeat each other: do they repeat a limited number of states?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from attractors.cli.stage import metrics_option
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, COLUMN, drawing, log_axis, log_scale, panels, save
from attractors.report.words import Table
from attractors.results.run import Run
from attractors.tables import read_csv

SHOWN = 4  # sizes whose rarefaction curves are drawn


def findings(run: Run) -> Iterator[Table]:
    """Yield how the states of samples that are not memorized grow with the number drawn, at the spurious peak."""
    rows = []
    for name, peak in run.peaks.items():
        if (table := run.table("repetition", name)) is not None:
            mean = table[peak.K == table.K].mean()
            rows.append([name, f"{peak.K:.0f}", f"{mean.new:.0f}", f"{mean.states:.0f}", f"{mean.exponent:.2f}",
                         f"{mean.coverage:.2f}", f"{mean.C_2:.2g}"])
    if rows:
        columns = ("sweep", "K", "samples that are not memorized", "states among them",
                   "exponent of states against samples (0: all seen, 1: a continuum)", "coverage", "C_2")
        yield Table("States that are no training images, at the spurious peak, means over replicates", columns, rows)


FIGURE = Figure(
    __name__, "Not in the paper", "Do samples that are no copies repeat a limited number of states?",
    "Spurious samples have duplicates in the synthetic set, which is assumed to be very large (Sec. 4.1).",
    stages=("states_table",), pictures=("repetition/{}",), tables=("repetition/{}", "rarefaction/{}"),
    findings=findings,
)


@drawing
@click.argument("name")
@metrics_option
def main(name: str, metrics: Path, outs: tuple[str, ...]) -> None:
    """Draw METRICS/repetition/NAME.csv and METRICS/rarefaction/NAME.csv."""
    from matplotlib import colormaps

    table = read_csv(f"{metrics}/repetition/{name}.csv", "K", "spurious", "spurious_quarter", "C_2", "exponent")
    curves = read_csv(f"{metrics}/rarefaction/{name}.csv", "K", "replicate", "drawn", "states")
    figure, axes = panels(3, 1, COLUMN, 6)
    axes = axes[:, 0]
    for column, style, words in (("spurious", "-", "all samples"), ("spurious_quarter", "--", "a quarter of them")):
        mean = table.groupby("K")[column].mean()
        axes[0].plot(mean.index, mean, f"^{style}", ms=3, color=COLOURS["spurious"], label=words)
    axes[0].set(title="the spurious fraction depends on |S'|", ylabel="spurious fraction", ylim=(0, None))
    axes[0].legend()
    axes[1].plot(table.K, table.C_2.where(table.C_2 > 0), "o", ms=3, mfc="none", color="black")
    mean = table.groupby("K").C_2.mean()
    axes[1].plot(mean.index, mean.where(mean > 0), "k-", lw=1)
    axes[1].set(title="C_2: two samples that are no copies repeat", ylabel="probability")
    if (table.C_2 > 0).any():
        log_scale(axes[1], yscale="log")
    for axis in axes[:2]:
        log_axis(axis)
    sizes = [K for K, part in table.groupby("K") if (part.new >= 100).all()][:: 2][:SHOWN]
    for colour, K in zip(colormaps["viridis"]([0, 0.3, 0.6, 0.85]), sizes, strict=False):
        for number, part in curves[K == curves.K].groupby("replicate"):
            axes[2].plot(part.drawn, part.states, "-", lw=1, color=colour, label=f"K = {K}" if not number else None)
    end = curves.drawn.max()
    axes[2].plot([1, end], [1, end], ":", color="grey", label="no repetition")
    axes[2].set(title="states seen against samples drawn", xlabel="samples that are no copies", ylabel="states")
    log_scale(axes[2], xscale="log", yscale="log")
    axes[2].legend()
    click.echo(f"{save(figure, outs)}: repetition of {name} at {table.K.nunique()} sizes")
