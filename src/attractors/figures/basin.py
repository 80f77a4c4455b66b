"""Figs. 4B and 16-19: log-volumes of basins and critical times against K, beside the fractions of each type."""

from collections.abc import Iterator
from pathlib import Path

import click

from attractors.cli.stage import metrics_option
from attractors.distances.detection import TYPES
from attractors.figures.registry import Figure
from attractors.figures.style import drawing, legend_below, means_panels, save
from attractors.report.words import Table, by_type, means, order
from attractors.results.run import Run, wide
from attractors.tables import write_csv


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
    __name__, "4B, 16-19", "Which type of sample has the largest basin of attraction?",
    "Memorized samples have the largest basins, spurious ones follow, and those of generalized samples are much "
    "smaller.",
    stages=("basin",), pictures=("basin/{}",), tables=("basin/{}",), findings=findings,
)


@drawing
@click.option("--sweep", "name", required=True, help="Name of the sweep.")
@metrics_option
@click.option("--table", "plotted", required=True, help="The table to write: what is drawn, one row for each K.")
def main(name: str, metrics: Path, plotted: str, outs: tuple[str, ...]) -> None:
    """Draw METRICS/basin/SWEEP.csv; dashed, the exact control SWEEP-exact."""
    run = Run(metrics)
    table, control = run.needed("basin", name, "K", "log_volume", "t_c"), run.control("basin", name)
    labels = {"log_volume": "log-volume of the basin (Eq. 34)", "t_c": "critical time $t_c$, steps (Alg. 1)"}
    figure, (volume, time) = means_panels(table, control, labels)
    time.set_ylim(0, None)
    if "log_volume_floor" in table:
        volume.axhline(table.log_volume_floor[0], color="black", lw=0.8, ls="-.", label="ball of radius $\\delta_d$")
    legend_below(figure, volume, "bars: 95% interval of the mean")
    write_csv(plotted, wide(table, ["log_volume", "log_volume_se", "t_c", "t_c_se"]))
    click.echo(f"{save(figure, outs)}: basins of {table.n.sum()} patterns at {table.K.nunique()} sizes")
