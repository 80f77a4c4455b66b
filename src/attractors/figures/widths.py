"""Figs. 7 and 8: fractions of networks of several sizes, and how the transition moves with their parameters."""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd

from attractors.cli.stage import metrics_option
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, Axes, drawing, log_axis, log_scale, panels, save
from attractors.results.run import Run
from attractors.results.widths import exponent_in_words
from attractors.tables import read_json

MARKS = {"half_memorized_K": ("memorized", "memorized falls to 1/2"), "spurious_peak_K": ("spurious", "spurious peak")}


def findings(run: Run) -> Iterator[str]:
    """Yield how the K of the half and of the peak grow with the parameters, for each dataset with several widths."""
    for path in sorted((run.metrics / "widths").glob("*.json")):
        exponents = read_json(path)
        half, peak = (exponent_in_words(exponents, key) for key in ("half_memorized", "spurious_peak"))
        yield (
            f"{path.stem}: the K at which memorized samples fall to one half grows with the parameters of the network "
            f"with {half}, that of the spurious peak with {peak}."
        )


FIGURE = Figure(
    __name__, "7, 8", "Do wider networks remember more?",
    "Capacity grows with the parameters of the network, so that the transition and the spurious peak move to "
    "larger K.",
    stages=("classify", "widths"), pictures=("widths/{}",), tables=("widths/{}",), findings=findings,
)


def draw(axes: list[Axes], table: pd.DataFrame, single: dict[str, pd.DataFrame], run: Run) -> None:
    """Draw the memorized and the spurious fraction of each sweep against K, and the two K against the parameters."""
    from matplotlib import colormaps

    for colour, row in zip(colormaps["viridis"](np.linspace(0, 0.85, len(table))), table.itertuples(), strict=True):
        fractions = run.needed("fractions", row.sweep, "K")
        for axis, kind in zip(axes, ("memorized", "spurious"), strict=False):
            label = f"{row.sweep}, {row.parameters:,}"
            axis.plot(fractions.K, fractions[kind], "o-", ms=3, lw=1.2, color=colour, label=label)
            axis.fill_between(
                fractions.K, fractions[f"{kind}_low"], fractions[f"{kind}_high"], color=colour, alpha=0.2, lw=0
            )
            for _, part in single[row.sweep].groupby("replicate"):
                axis.plot(part.K, part[kind], "-", lw=0.4, alpha=0.5, color=colour)
            axis.set(title=f"{kind} fraction")
            log_axis(axis)
    for key, (kind, words) in MARKS.items():
        errors = np.abs(table[[f"{key}_low", f"{key}_high"]].to_numpy() - table[[key]].to_numpy()).T
        axes[2].errorbar(table.parameters, table[key], errors, fmt="o", ms=4, color=COLOURS[kind], label=words)
    axes[2].set(title="where the transition is", xlabel="parameters", ylabel="training set size K")
    log_scale(axes[2], xscale="log", yscale="log")
    axes[0].legend(title="sweep, parameters", fontsize=7, title_fontsize=7)
    axes[2].legend(fontsize=7)


@drawing
@click.argument("dataset")
@metrics_option
def main(dataset: str, metrics: Path, outs: tuple[str, ...]) -> None:
    """Draw METRICS/widths/DATASET.csv, and the fractions of each of its sweeps."""
    run = Run(metrics)
    table = run.needed("widths", dataset, "parameters", *MARKS)
    single = {name: run.replicates("fractions", name) for name in table.sweep}
    figure, [axes] = panels(1, 3, 11, 3.6)
    draw(list(axes), table, single, run)
    click.echo(f"{save(figure, outs)}: {len(table)} sweeps of {dataset}")
