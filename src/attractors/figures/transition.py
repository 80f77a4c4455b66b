"""Fig. 4A: fractions of memorized, spurious and generalized samples against K, spurious enlarged below."""

from collections.abc import Iterator
from pathlib import Path

import click
import pandas as pd

from attractors.cli.settings import ROOT, read_runs
from attractors.distances.detection import TYPES
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, COLUMN, MARKERS, Axes, drawing, legend_below, log_axis, panels, save
from attractors.report.words import interval, percent
from attractors.results.run import Run, halving


def findings(run: Run) -> Iterator[str]:
    """Yield, for each sweep, how the fractions go from the smallest K to the largest, and where the spurious one peaks.
    """
    for name, peak in run.peaks.items():
        table = run.table("fractions", name)
        first, last = table.iloc[0], table.iloc[-1]
        half = halving(table)
        fall = f"; they drop below one half between K = {half[0]} and {half[1]}" if half else ""
        yield (
            f"{name}: of {first['count']:,.0f} to {table['count'].max():,.0f} samples at each size, "
            f"{interval(first, 'memorized')} are memorized at K = {first.K:.0f} and {interval(last, 'memorized')} at "
            f"K = {last.K:.0f}{fall}. Generalized ones go from {percent(first.generalized)} to "
            f"{percent(last.generalized)}."
        )
        between = 0 < peak.name < len(table) - 1
        yield (
            f"{name}: spurious samples are most frequent at K = {peak.K:.0f}, {interval(peak, 'spurious')}, where "
            f"{percent(peak.memorized)} are memorized and {percent(peak.generalized)} generalized"
            + (": a peak inside the transition." if between else ": at an end of the range, so no peak inside it.")
        )
    for name in run.controls:
        if (table := run.table("fractions", name)) is not None:
            kind = CONTROLS.get(name.rpartition("-")[2], "memorized")
            largest = table.iloc[-1]
            whole = table.K[::-1][table[kind][::-1].cummin() == 1]  # from the largest K down to the first exception
            share = f"all samples from K = {whole.min():.0f}" if len(whole) else f"{percent(largest[kind])} at K ="
            yield f"{name}, a denoiser in closed form: {share} {'to ' * bool(len(whole))}{largest.K:.0f} are {kind}."


FIGURE = Figure(
    __name__, "4A, 9", "Where does memorization turn into generalization?",
    "As K grows memorized samples vanish and generalized ones take over; spurious samples rise and fall at the "
    "boundary between the two. The same holds for larger S' (Fig. 9).",
    stages=("subset", "train", "sample", "neighbours", "classify"), pictures=("transition",), tables=("fractions/{}",),
    findings=findings,
)


CONTROLS = {"exact": "memorized", "linear": "generalized"}  # closed forms, and what all their samples should be


def draw(
    table: pd.DataFrame, single: pd.DataFrame, controls: dict[str, pd.DataFrame | None], title: str, top: Axes,
    bottom: Axes,
) -> None:
    """Draw the fraction of each type against K, with its interval, for one sweep.

    single: the fractions of each replicate, drawn as points where there are several. controls: {form: table} of the
    closed forms: above the type that all their samples should be of, and their spurious samples below.
    """
    for axis, names in ((top, TYPES), (bottom, TYPES[1:2])):
        for name in names:
            axis.plot(table.K, table[name], f"{MARKERS[name]}-", ms=3.5, lw=1.2, color=COLOURS[name], label=name)
            axis.fill_between(
                table.K, table[f"{name}_low"], table[f"{name}_high"], color=COLOURS[name], alpha=0.2, lw=0
            )
            if single.replicate.nunique() > 1:
                axis.plot(single.K, single[name], ".", ms=2.5, alpha=0.6, color=COLOURS[name])
    for form, style in (("exact", "x--"), ("linear", "+:")):
        if (control := controls.get(form)) is not None:
            options = {"ms": 3, "lw": 0.8, "mfc": "none"}
            kind = CONTROLS[form]
            top.plot(control.K, control[kind], style, color=COLOURS[kind], label=f"{kind}, {form} denoiser", **options)
            bottom.plot(control.K, control.spurious, style, color=COLOURS["spurious"], **options)
    for axis in (top, bottom):
        log_axis(axis, None)
    top.set(title=title, ylabel="fraction of S'", ylim=(-0.02, 1.04))
    bottom.set(xlabel="training set size K", ylabel="spurious fraction", ylim=(0, None))


@drawing
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--sweep", "names", multiple=True, help="Sweeps to draw.  [default: those in runs.yaml]")
def main(folder: Path, names: tuple[str, ...], outs: tuple[str, ...]) -> None:
    """Draw the fractions in FOLDER/fractions/SWEEP.csv, one column a sweep, and of each replicate as points.

    Dashed and dotted are the controls in closed form, SWEEP-exact and SWEEP-linear.
    """
    names = names or list(read_runs(ROOT / "runs.yaml")["learned"])
    run = Run(folder)
    figure, axes = panels(2, len(names), COLUMN * len(names), 4.6, sharex="col", sharey="row", height_ratios=[2, 1])
    for column, name in zip(axes.T, names, strict=True):
        controls = {form: run.control("fractions", name, form) for form in CONTROLS}
        table, single = run.needed("fractions", name, "K", *TYPES), run.replicates("fractions", name)
        draw(table, single, controls, name, *column)
    legend_below(figure, axes[0, 0], "bands: 95% interval over replicates; points: each replicate", 2, columnspacing=1)
    click.echo(f"{save(figure, outs)}: fractions against K of {', '.join(names)}")
