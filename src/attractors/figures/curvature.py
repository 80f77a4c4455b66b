"""Fig. 5A: spectra of each type less those of training images at the spurious peak, and their summaries against K."""

from collections.abc import Iterator
from pathlib import Path

import click

from attractors.cli.stage import metrics_option
from attractors.distances.detection import TYPES
from attractors.figures.registry import Figure
from attractors.figures.spectra import TITLES, curves
from attractors.figures.style import COLUMN, drawing, legend_below, means_by_type, panels, save
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
                at_training = part[part.type == "training"]
                first, last = at_training.iloc[0], at_training.iloc[-1]
                yield (
                    f"{name}: the median singular value at training images is {first['median']:.3g} at K = {first.K} "
                    f"and {last['median']:.3g} at K = {last.K} ({TITLES[method]})."
                )
    if rows:
        yield by_type("Spectra where spurious samples are most frequent", rows)


FIGURE = Figure(
    __name__, "5A", "Around which type is the energy curved in the most directions?",
    "Around memorized and spurious samples the energy is curved in more directions (fewer singular values near "
    "zero) than around generalized ones; at training images the singular values fall as K grows.",
    stages=("curvature",), pictures=("curvature/{}",), tables=("curvature/{}",), findings=findings,
)


@drawing
@click.option("--sweep", "name", required=True, help="Name of the sweep.")
@metrics_option
@click.option("--skip", type=click.IntRange(0), default=5, help="Largest values left out (D.2).")
@click.option("--table", "plotted", required=True, help="The table to write: what is drawn, one row for each K.")
def main(name: str, metrics: Path, skip: int, plotted: str, outs: tuple[str, ...]) -> None:
    """Draw METRICS/spectra/SWEEP.csv and METRICS/curvature/SWEEP.csv; dashed, the exact control SWEEP-exact."""
    run = Run(metrics)
    spectra = run.needed("spectra", name, "K", "rank", "mean")
    summaries, exact = run.needed("curvature", name, "K", "t0"), run.control("curvature", name)
    spectra = spectra[spectra["rank"] > skip]
    peak = int(run.peak(name).K)
    methods = [method for method in TITLES if method in set(spectra.method)]
    figure, axes = panels(len(methods), 2, COLUMN, 1.9 * len(methods) + 0.8)
    for method, (left, right) in zip(methods, axes, strict=True):
        curves(left, spectra[(spectra.method == method) & (spectra["K"] == peak)])
        left.set(title=f"K = {peak}, {TITLES[method]}, t = {summaries.t0[0]}", xlabel="rank",
                 ylabel="singular value,\nless that of training")
        known = None if exact is None else exact[exact.method == method]
        means_by_type(right, summaries[summaries.method == method], known, SUMMARIES[method])
        right.set(ylabel=SUMMARIES[method].replace("_", " "), xlabel="K")
    legend_below(figure, axes[0, 1], "bands and bars: 95% interval of the mean")
    dimension = summaries[summaries.method == methods[-1]]
    write_csv(plotted, wide(dimension, [SUMMARIES[methods[-1]], f"{SUMMARIES[methods[-1]]}_se"]))
    click.echo(f"{save(figure, outs)}: spectra at K={peak}, and summaries at {summaries.K.nunique()} sizes")
