"""Figs. 4B and 16-19: log-volumes of basins and critical times against K, beside the fractions of each type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pandas as pd

from attractors.cli.stage import Stage
from attractors.distances.detection import TYPES
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, MARKERS, figure_option, log_axis, panels, save, thin_lines
from attractors.report.words import Table, by_type, means, order
from attractors.results.run import ORDER, Run, wide
from attractors.tables import write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def findings(run: Run) -> Iterator[str | Table]:
    """Yield mean log-volumes and critical times of each type at the spurious peak, and the order in which volumes fall.
    """
    rows = []
    for name, peak in run.peaks.items():
        if (table := run.table("basin", name)) is not None:
            for column, words in (("log_volume", "log-volume of the basin"), ("t_c", "critical time, steps")):
                rows.append([name, f"{peak.K:.0f}", words, *means(table, column, peak.K)])
            yield f"{name}, log-volume: {order(table, 'log_volume', TYPES)}"
    if rows:
        yield by_type("Basins where spurious samples are most frequent", rows)


FIGURE = Figure(
    __name__,
    "4B, 16-19",
    "Volumes of basins of attraction, and critical times",
    "Memorized samples have the largest basins, spurious ones follow, and those of generalized samples are much "
    "smaller.",
    stages=("basin",),
    pictures=("basin/{}",),
    tables=("basin/{}",),
    findings=findings,
)


def draw(
    axis: Axes, table: pd.DataFrame, single: pd.DataFrame | None, control: pd.DataFrame | None, column: str
) -> None:
    """Draw the mean of a column of each type against K with its 95% interval, and a band of one standard deviation.

    single: the same of each replicate, drawn as thin lines where there are several. The control's means are dashed.
    """
    for name in ORDER:
        part = table[table.type == name]
        mean, deviation = part[column], part[f"{column}_std"].fillna(0)
        error = (part["quantile"] * part[f"{column}_se"]).fillna(0)
        axis.errorbar(part.K, mean, error, fmt=f"{MARKERS[name]}-", ms=3.5, lw=1.2, color=COLOURS[name], label=name)
        thin_lines(axis, single, name, column)
        axis.fill_between(part.K, mean - deviation, mean + deviation, color=COLOURS[name], alpha=0.15, lw=0)
        if control is not None and len(part := control[control.type == name]):
            axis.plot(part.K, part[column], "s--", ms=3, lw=0.8, mfc="none", color=COLOURS[name])
    log_axis(axis)


@click.command(cls=Stage)
@click.option("--sweep", "name", required=True, help="Name of the sweep.")
@click.option("--metrics", type=click.Path(file_okay=False), required=True, help="Folder of tables.")
@click.option("--table", "plotted", required=True, help="The table to write: what is drawn, one row for each K.")
@figure_option
def main(name: str, metrics: str, plotted: str, outs: tuple[str, ...]) -> None:
    """Draw METRICS/basin/SWEEP.csv and METRICS/fractions/SWEEP.csv; dashed, the exact control SWEEP-exact."""
    run = Run(Path(metrics))
    table, control = run.needed("basin", name, "K", "log_volume", "t_c"), run.control("basin", name)
    fractions = run.needed("fractions", name, "K", *TYPES)
    figure, [[volume, time, share]] = panels(1, 3, 11, 3.4, sharex=True)
    single = run.replicates("basin", name)
    draw(volume, table, single, control, "log_volume")
    draw(time, table, single, control, "t_c")
    volume.set(title=f"{name}: basins of attraction", ylabel="log-volume, ln V (Eq. 34)")
    time.set(title="critical time (Alg. 1)", ylabel="$t_c$, steps of diffusion", ylim=(0, None))
    if "log_volume_floor" in table:
        floor = table.log_volume_floor[0]
        volume.axhline(floor, color="black", lw=0.8, ls=":", label="ball of radius $\\delta_d$")
    for kind in TYPES:
        share.plot(fractions.K, fractions[kind], f"{MARKERS[kind]}-", ms=3.5, lw=1.2, color=COLOURS[kind])
    share.set(title="transition", xlabel="training set size K", ylabel="fraction of S'", ylim=(-0.02, 1.04))
    if control is not None:
        volume.plot([], [], "s--", ms=3, lw=0.8, mfc="none", color="black", label="exact denoiser")
    bands = "bars: 95% interval of the mean; bands: one standard deviation"
    figure.legend(*volume.get_legend_handles_labels(), loc="outside lower center", ncols=6, title=bands)
    write_csv(plotted, wide(table, ["log_volume", "log_volume_se", "t_c", "t_c_se"]))
    click.echo(f"{save(figure, outs)}: basins of {table.n.sum()} patterns at {table.K.nunique()} sizes")


if __name__ == "__main__":
    main()
