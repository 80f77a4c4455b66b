"""Figs. 6 and 26-30: the energy of each type of sample above that of training images against K, for each reference."""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd

from attractors.cli.stage import metrics_option
from attractors.distances.detection import TYPES
from attractors.figures.registry import Figure
from attractors.figures.style import COLUMN, drawing, legend_below, means_by_type, panels, save
from attractors.report.words import Table, by_type, means
from attractors.results.run import Run, wide
from attractors.tables import write_csv


def lowest(table: pd.DataFrame) -> tuple[int, int, int] | None:
    """Where spurious samples have the lowest energy: (pairs of a K and a reference image with all three types, how many
    of them have it, how many by more than two standard errors of both differences). None where no pair has all types.

    table: the table of energies, with `gap` and `gap_se`.
    """
    pivoted = table.pivot(index=["K", "reference"], columns="type", values=["gap", "gap_se"])
    if not all(kind in pivoted["gap"] for kind in TYPES):
        return None
    gap, error = (pivoted[column][list(TYPES)].to_numpy() for column in ("gap", "gap_se"))
    known = np.isfinite(gap).all(1) & np.isfinite(error).all(1)
    above = gap[known][:, ::2] - gap[known][:, 1:2]  # memorized and generalized above spurious
    errors = np.hypot(error[known][:, ::2], error[known][:, 1:2])
    return len(above), int((above > 0).all(1).sum()), int((above > 2 * errors).all(1).sum())


def findings(run: Run) -> Iterator[str | Table]:
    """How often spurious samples are the lowest, and the gaps of each type at the spurious peak and at both ends."""
    rows = []
    for name, peak in run.peaks.items():
        if (table := run.table("energy", name)) is not None:
            if counted := lowest(table):
                yield (
                    f"{name}: of the {counted[0]} pairs of a size and a reference image where all three types were "
                    f"measured, spurious samples are the lowest in {counted[1]}, by more than two standard errors in "
                    f"{counted[2]}."
                )
            table = table[table.reference == table.reference.min()]
            for size in sorted({int(peak.K), int(table.K.min()), int(table.K.max())}):
                rows.append([name, f"{size}", "energy above training images", *means(table, "gap", size)])
    if rows:
        yield by_type("Energies relative to the first reference image; lower is more stable", rows)


FIGURE = Figure(
    __name__, "6, 26-30", "Which type of sample lies lowest in energy?",
    "Memorized samples start as low as training images and rise with K; generalized ones start high and come "
    "down; in the transition spurious samples are the lowest of the three, for every reference image.",
    stages=("energy",), pictures=("energy/{}",), tables=("energy/{}",), findings=findings,
)


@drawing
@click.option("--sweep", "name", required=True, help="Name of the sweep.")
@metrics_option
@click.option("--table", "plotted", required=True, help="The table to write: what is drawn, one row for each K.")
def main(name: str, metrics: Path, plotted: str, outs: tuple[str, ...]) -> None:
    """Draw METRICS/energy/SWEEP.csv, one panel for each reference; dashed, the exact control SWEEP-exact."""
    run = Run(metrics)
    table, control = run.needed("energy", name, "K", "reference", "gap"), run.control("energy", name)
    references = sorted(table.reference.unique())
    rows = -(-len(references) // 2)
    table.loc[table.type == "training", "gap_se"] = 0  # zero by definition
    figure, axes = panels(rows, 2, COLUMN, 1.6 * rows + 0.8, sharex=True, sharey=True)
    for axis, reference in zip(axes.flat, references, strict=False):
        exact = None if control is None else control[control.reference == reference]
        means_by_type(axis, table[table.reference == reference], exact, "gap")
        axis.set(title=f"reference {reference}", xlabel="training set size K" if axis in axes[-1] else "")
    for axis in axes.flat[len(references) :]:
        axis.axis("off")
    legend_below(figure, axes[0, 0], "bars: 95% interval of the mean, the widest tenth cut")
    reach = (table.gap.abs() + (table["quantile"] * table.gap_se).fillna(0)).quantile(0.9)
    if reach > 0:
        axes[0, 0].set_ylim(-1.1 * reach, 1.1 * reach)
    figure.supylabel(f"energy u above training images at t = {table.t0[0]}; lower is more stable", fontsize=8)
    write_csv(plotted, wide(table[table.reference == references[0]], ["gap", "gap_std", "gap_se"]))
    click.echo(f"{save(figure, outs)}: energy gaps at {table.K.nunique()} sizes with {len(references)} references")
