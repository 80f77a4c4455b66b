"""Figs. 20-23: mean spectra of memorized, spurious and generalized samples and of training images at every K."""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd

from attractors.cli.stage import metrics_option
from attractors.distances.detection import TYPES
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, COLUMN, Axes, drawing, legend_below, panels, save
from attractors.report.words import order
from attractors.results.run import Run

TITLES = {"central": "Alg. 2", "one_sided": "Alg. 3", "jacobian": "Jacobian"}


def findings(run: Run) -> Iterator[str]:
    """In which order the smallest and the median singular value of Alg. 2 fall."""
    for name in run.peaks:
        table = run.table("curvature", name)
        part = table[table.method == "central"] if table is not None else ()
        for column in ("smallest", "median") if len(part) else ():
            yield f"{name}, {column} singular value (Alg. 2): {order(part, column, TYPES)}"


FIGURE = Figure(
    __name__, "20-23", "At which K do the spectra of the types differ?",
    "In the intermediate regime memorized and spurious samples lie above generalized ones; in CIFAR10 the three "
    "types are hardly apart.",
    stages=("curvature",), pictures=("spectra/{}",), tables=("spectra/{}",), findings=findings, supplement=True,
)


def curves(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the mean singular values of each type less those of training images, by rank, with their 95% intervals."""
    base = table[table.type == "training"].set_index("rank")["mean"]
    axis.axhline(0, color=COLOURS["training"], lw=1, ls=":", label="training")
    for name, style in zip(TYPES, ("-", "--", "-."), strict=True):
        part = table[table.type == name].set_index("rank")
        mean, error = part["mean"] - base, (part["quantile"] * part["mean_se"]).fillna(0)
        axis.plot(mean, style, lw=1.3, color=COLOURS[name], label=name)
        axis.fill_between(mean.index, mean - error, mean + error, color=COLOURS[name], alpha=0.2, lw=0)


@drawing
@click.option("--sweep", "name", required=True, help="Name of the sweep.")
@metrics_option
@click.option("--method", type=click.Choice(list(TITLES)), help="Whose spectra are drawn.  [default: Alg. 2's, if any]")
@click.option("--skip", type=click.IntRange(0), default=5, help="Largest values left out (D.2).")
def main(name: str, metrics: Path, method: str | None, skip: int, outs: tuple[str, ...]) -> None:
    """Draw METRICS/spectra/SWEEP.csv, one panel for each K that has all types."""
    table = Run(metrics).needed("spectra", name, "K", "rank", "mean")
    method = method or next(name for name in TITLES if name in set(table.method))
    table = table[(table.method == method) & (table["rank"] > skip)]
    if table.empty:
        raise click.BadParameter(f"{metrics}/spectra/{name}: no spectra by {method}", param_hint="--method")
    kinds = table.groupby("K").type.unique()
    sizes = [size for size, present in kinds.items() if set(TYPES) <= set(present)] or list(kinds.index)
    rows = -(-len(sizes) // 2)
    figure, axes = panels(rows, 2, COLUMN, 1.3 * rows + 0.6, sharex=True, sharey=True)
    for axis, size in zip(axes.flat, sizes, strict=False):
        curves(axis, table[table["K"] == size])
        axis.set_title(f"K = {size}")
    for axis in axes.flat[len(sizes) :]:
        axis.axis("off")
    for axis in axes[-1]:
        axis.set_xlabel("rank")
    drawn = np.concatenate([line.get_ydata() for axis in axes.flat for line in axis.get_lines()])
    axes[0, 0].set_ylim(1.3 * np.nanmin(drawn) - 1, 1.3 * np.nanmax(drawn) + 1)  # bands of few samples are cut
    figure.supylabel(f"singular value less that of training images ({TITLES[method]})", fontsize=8)
    legend_below(figure, axes[0, 0], "bands: 95% interval of a type's mean", 2)
    click.echo(f"{save(figure, outs)}: {TITLES[method]} spectra at {len(sizes)} sizes")
