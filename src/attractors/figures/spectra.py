"""Figs. 20-23: mean spectra of memorized, spurious and generalized samples and of training images at every K."""

from collections.abc import Iterator
from pathlib import Path

import click
import pandas as pd

from attractors.cli.stage import metrics_option
from attractors.distances.detection import TYPES
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, Axes, drawing, grid, save
from attractors.report.words import order
from attractors.results.run import ORDER, Run

TITLES = {"central": "Alg. 2", "one_sided": "Alg. 3", "jacobian": "Jacobian"}


def findings(run: Run) -> Iterator[str]:
    """In which order the smallest and the median singular value of Alg. 2 fall."""
    for name in run.peaks:
        table = run.table("curvature", name)
        part = table[table.method == "central"] if table is not None else ()
        for column in ("smallest", "median") if len(part) else ():
            yield f"{name}, {column} singular value (Alg. 2): {order(part, column, TYPES)}"


FIGURE = Figure(
    __name__, "20-23", "Spectra at every K",
    "In the intermediate regime memorized and spurious samples lie above generalized ones; in CIFAR10 the three "
    "types are hardly apart.",
    stages=("curvature",), pictures=("spectra/{}",), tables=("spectra/{}",), findings=findings,
)


def curves(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the mean singular values of each type by rank, with a band of one standard deviation."""
    for name in ORDER:
        part = table[table.type == name]
        if len(part):
            deviation = part["mean_std"].fillna(0)
            axis.plot(part["rank"], part["mean"], lw=1.2, color=COLOURS[name], label=name)
            axis.fill_between(
                part["rank"], part["mean"] - deviation, part["mean"] + deviation, color=COLOURS[name], alpha=0.15, lw=0
            )


@drawing
@click.option("--sweep", "name", required=True, help="Name of the sweep.")
@metrics_option
@click.option("--method", type=click.Choice(list(TITLES)), help="Whose spectra are drawn.  [default: Alg. 2's, if any]")
@click.option("--skip", type=click.IntRange(0), default=5, help="Largest values left out (D.2).")
def main(name: str, metrics: Path, method: str | None, skip: int, outs: tuple[str, ...]) -> None:
    """Draw METRICS/spectra/SWEEP.csv, one panel for each K."""
    table = Run(metrics).needed("spectra", name, "K", "rank", "mean")
    method = method or next(name for name in TITLES if name in set(table.method))
    table = table[(table.method == method) & (table["rank"] > skip)]
    if table.empty:
        raise click.BadParameter(f"{metrics}/spectra/{name}: no spectra by {method}", param_hint="--method")
    sizes = sorted(table.K.unique())
    figure, axes = grid(len(sizes), 2.6, 1.7, sharex=True, sharey=True)
    for axis, size in zip(axes.flat, sizes, strict=False):
        curves(axis, table[table["K"] == size])
        axis.set_title(f"K = {size}")
    axes.flat[0].legend(*axes.flat[len(sizes) // 2].get_legend_handles_labels(), fontsize=7)
    axes[0, 0].set_ylim(bottom=0)  # shared, so only once all is drawn
    for axis in axes[-1]:
        axis.set_xlabel("rank")
    for axis in axes[:, 0]:
        axis.set_ylabel(f"singular value, {TITLES[method]}")
    click.echo(f"{save(figure, outs)}: {TITLES[method]} spectra at {len(sizes)} sizes")
