"""Fig. 5A: spectra of each type where spurious samples are most frequent, those of training images as K grows."""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd

from attractors.cli.stage import metrics_option
from attractors.distances.detection import TYPES
from attractors.figures.registry import Figure
from attractors.figures.spectra import TITLES, curves
from attractors.figures.style import Axes, drawing, means_by_type, panels, save
from attractors.report.words import Table, by_type, means, order
from attractors.results.run import Run, wide
from attractors.tables import write_csv

SUMMARIES = {"jacobian": "degrees_of_freedom", "central": "effective_rank", "one_sided": "effective_rank"}
WORDS = {  # the more directions are curved, the fewer degrees of freedom and the higher the effective rank
    "jacobian": "degrees of freedom (fewer: curved in more directions)",
    "central": "effective rank (higher: curved in more directions)",
}


def findings(run: Run) -> Iterator[str | Table]:
    """Yield summaries of the spectra of each type at the spurious peak, their order, and their change with K."""
    rows = []
    for name, peak in run.peaks.items():
        table = run.table("curvature", name)
        for method, words in WORDS.items() if table is not None else ():
            part, column = table[table.method == method], SUMMARIES[method]
            if column in part and len(part):
                rows.append([name, f"{peak.K:.0f}", f"{words}, {TITLES[method]}", *means(part, column, peak.K)])
                kinds = TYPES if method == "central" else TYPES[::-1]
                yield f"{name}, {words}: {order(part, column, kinds)}"
                own = part[part.type == "training"]
                yield (
                    f"{name}: the median singular value at training images is {own['median'].iloc[0]:.3g} at K = "
                    f"{own.K.iloc[0]} and {own['median'].iloc[-1]:.3g} at K = {own.K.iloc[-1]} ({TITLES[method]})."
                )
    if rows:
        yield by_type("Spectra where spurious samples are most frequent", rows)


FIGURE = Figure(
    __name__, "5A", "Curvature of the energy at the transition",
    "Around memorized and spurious samples the energy is curved in more directions (fewer singular values near "
    "zero) than around generalized ones; at training images the singular values fall as K grows.",
    stages=("curvature",), pictures=("curvature/{}",), tables=("curvature/{}",), findings=findings,
)


def rainbow(axis: Axes, table: pd.DataFrame, control: pd.DataFrame | None) -> None:
    """Draw mean spectra of training images, one curve for each K from purple to red.

    The spectrum of the control's largest K is dashed.
    """
    from matplotlib import colormaps

    sizes = table["K"].unique()
    colours = colormaps["rainbow"](np.linspace(0, 1, len(sizes)))
    for (size, part), colour in zip(table.groupby("K"), colours, strict=True):
        axis.plot(part["rank"], part["mean"], lw=1, color=colour, label=f"{size}")
    if control is not None and len(control):
        part = control[control["K"] == control["K"].max()]
        axis.plot(part["rank"], part["mean"], "k--", lw=0.8, label=f"{part['K'].max()}, exact")
    axis.set(title="training images", xlabel="rank", ylabel="singular value", ylim=(0, None))
    axis.legend(title="K", fontsize=6, title_fontsize=7, ncols=2)


@drawing
@click.option("--sweep", "name", required=True, help="Name of the sweep.")
@metrics_option
@click.option("--skip", type=click.IntRange(0), default=5, help="Largest values left out (D.2).")
@click.option("--table", "plotted", required=True, help="The table to write: what is drawn, one row for each K.")
def main(name: str, metrics: Path, skip: int, plotted: str, outs: tuple[str, ...]) -> None:
    """Draw METRICS/spectra/SWEEP.csv and METRICS/curvature/SWEEP.csv; dashed, the exact control SWEEP-exact."""
    run = Run(metrics)
    spectra, control = run.needed("spectra", name, "K", "rank", "mean"), run.control("spectra", name)
    summaries, exact = run.needed("curvature", name, "K", "t0"), run.control("curvature", name)
    spectra = spectra[spectra["rank"] > skip]
    control = None if control is None else control[control["rank"] > skip]
    single = run.replicates("curvature", name)
    peak = int(run.peak(name).K)
    methods = [method for method in TITLES if method in set(spectra.method)]
    figure, axes = panels(len(methods), 3, 11, 3.2 * len(methods))
    for method, (left, middle, right) in zip(methods, axes, strict=True):
        found, summary = (table[table.method == method] for table in (spectra, summaries))
        known, exact_of = (None if table is None else table[table.method == method] for table in (control, exact))
        curves(left, found[found["K"] == peak])
        left.set_title(f"{name}, K = {peak}: {TITLES[method]}, t = {summaries.t0[0]}")
        left.set(xlabel="rank", ylabel="singular value", ylim=(0, None))
        left.legend(fontsize=7)
        rainbow(middle, found[found.type == "training"], None if known is None else known[known.type == "training"])
        alone = None if single is None else single[single.method == method]
        means_by_type(right, summary, alone, exact_of, SUMMARIES[method], marker="o", size=3)
        right.set_ylabel(SUMMARIES[method].replace("_", " "))
    dimension = summaries[summaries.method == methods[-1]]
    write_csv(plotted, wide(dimension, [SUMMARIES[methods[-1]], f"{SUMMARIES[methods[-1]]}_se"]))
    click.echo(f"{save(figure, outs)}: spectra at K={peak}, and of training images at {summaries.K.nunique()} sizes")
