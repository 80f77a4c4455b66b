"""Other definitions of memorization on the same models: where each has its transition, and related measurements."""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pandas as pd

from attractors.cli.stage import metrics_option
from attractors.figures.registry import Figure
from attractors.figures.style import COLUMN, Axes, drawing, log_axis, log_scale, panels, save
from attractors.report.words import Table
from attractors.results.run import Run, half_memorized
from attractors.results.yardsticks import CURVES

PAINT = {
    "ratio": "#0072B2", "adaptive": "#56B4E9", "held_out_gap": "#CC79A7", "flipd": "#009E73",
    "path_departure": "#E69F00", "agreement": "#000000",
}
EQ_9 = "memorized (Eq. 9)"  # the paper's, drawn beside
ALONG = "-time"  # the sweep NAME-time has what needs trainings of its own
SHOWN = 4  # sizes whose gaps are drawn by noise level


def tables_of(run: Run, kind: str, name: str) -> pd.DataFrame:
    """Return the tables METRICS/kind of a sweep and of its trainings along time as one. Raises ValueError."""
    table, along = run.needed(kind, name), run.table(kind, f"{name}{ALONG}")
    return table if along is None else pd.concat([table, along], ignore_index=True)


def findings(run: Run) -> Iterator[str | Table]:
    """Yield the K at which each yardstick crosses its half."""
    rows = []
    for name in run.learned:
        if run.table("crossings", name) is None:
            continue
        for row in tables_of(run, "crossings", name).itertuples():
            if row.yardstick in CURVES and np.isfinite(row.K):
                ends = f"{row.low:.3g} to {row.high:.3g}" if np.isfinite(row.low) else ""
                rows.append([name, CURVES[row.yardstick].label, f"{row.half:.2g}", f"{row.K:.3g}", ends])
            elif row.yardstick == "effective_size":
                rows.append([name, "effective size of memorization (90%)", "", f"{row.K:.0f}", ""])
    if rows:
        yield Table("Where each yardstick crosses its half", ("sweep", "yardstick", "half", "K", "95% interval"), rows)


FIGURE = Figure(
    __name__, "Not in the paper", "Do other definitions place the transition at the same K?",
    "The paper defines memorized, spurious and generalized samples by two distances. Others define memorization "
    "by ratios of distances, by denoising errors, by dimensions, and by whether two networks agree.",
    stages=("yardsticks", "yardsticks_table"), pictures=("yardsticks/{}",),
    tables=("yardsticks/{}", "crossings/{}", "gaps/{}"), findings=findings, supplement=True,
)


def of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of one yardstick that have a value, by K."""
    return table[(table.yardstick == name) & np.isfinite(table.value)].sort_values("K")


def draw_band(axis: Axes, part: pd.DataFrame, colour: str, label: str, scale: float = 1.0, line: str = "o-") -> None:
    """Draw the rows of one yardstick against K, with their intervals as a band."""
    axis.plot(part.K, part.value / scale, line, ms=3, lw=1.2, color=colour, label=label)
    axis.fill_between(part.K, part.low / scale, part.high / scale, color=colour, alpha=0.15, lw=0)


def draw_curves(axis: Axes, table: pd.DataFrame, fractions: pd.DataFrame | None) -> None:
    """Draw every transition curve; one without a scale of its own is drawn in units of its largest value."""
    for name, curve in CURVES.items():
        if len(part := of(table, name)):
            scale = 1.0 if curve.level is not None else float(part.value.max())
            draw_band(axis, part, PAINT[name], curve.label, scale, "o--" if curve.rises else "o-")
    if fractions is not None:
        axis.plot(fractions.K, fractions.memorized, "s:", ms=3, lw=1, color="#555555")
    axis.set(title="transition curves (dashed: rising with K)", ylabel="share, or by the largest", ylim=(-0.1, 1.1))
    log_axis(axis)


def draw_crossings(axis: Axes, crossed: pd.DataFrame, fractions: pd.DataFrame | None) -> None:
    """Draw the K at which each curve crosses its half, with its interval; the names are the key to the curves."""
    rows = [(CURVES[row.yardstick].label, PAINT[row.yardstick], row.K, row.low, row.high)
            for row in crossed.itertuples() if row.yardstick in CURVES]
    if fractions is not None:
        rows.append((EQ_9, "#555555", half_memorized(fractions), np.nan, np.nan))
    for number, (name, colour, size, low, high) in enumerate(rows):
        axis.plot([low, high], [number, number], lw=3, color=colour, alpha=0.4)
        axis.plot(size, number, "o", ms=5, color=colour)
        axis.text(0.01, number - 0.3, name if np.isfinite(size) else f"{name}: nowhere", color=colour, fontsize=7,
                  transform=axis.get_yaxis_transform())
    axis.set(title="K at which each crosses its half", yticks=[], ylim=(len(rows) - 0.5, -0.9))
    if any(np.isfinite(row[2:]).any() for row in rows):
        log_axis(axis)
    else:
        axis.set(xticks=[], xlabel="training set size K")  # a logarithmic axis of no numbers cannot be drawn


def draw_gaps(axis: Axes, gaps: pd.DataFrame) -> None:
    """Draw the relative gap by noise level at a few sizes, and that of both closed forms at one of them."""
    sizes = gaps.K.unique()
    chosen = sizes[np.unique(np.linspace(0, len(sizes) - 1, SHOWN).round().astype(int))] if len(sizes) else []
    for number, size in enumerate(chosen):
        part, shade = gaps[size == gaps.K], f"{0.75 * (1 - number / len(chosen)):.2f}"
        axis.plot(part.noise_level, part.model, "o-", ms=2, lw=1.2, color=shade, label=f"K = {size}")
        if number == len(chosen) // 2:
            for form, style in (("exact", "--"), ("linear", ":")):
                axis.plot(part.noise_level, part[form], style, lw=1.5, color=PAINT["held_out_gap"],
                          label=f"{form}, K = {size}")
    axis.set(title="held-out denoising: relative gap", xlabel=r"noise level $\sigma_t / \sqrt{\bar\alpha_t}$",
             ylabel="(held-out - training) / held-out", ylim=(-0.05, 1.75))
    if len(chosen):
        log_scale(axis, xscale="log")
        axis.legend(ncols=2)


def draw_times(axis: Axes, table: pd.DataFrame, basins: pd.DataFrame | None) -> None:
    """Draw the times of speciation and collapse of the data, beside the critical times of training images (Alg. 1)."""
    for name, colour in (("speciation", "#E69F00"), ("collapse", "#CC79A7")):
        if len(part := of(table, f"{name}_time")):
            draw_band(axis, part, colour, f"{name} (Biroli et al.)")
    if basins is not None and len(part := basins[basins.type == "training"]):
        axis.plot(part.K, part.t_c, "s:", ms=3, lw=1, color="#555555", label="$t_c$ of training images (Alg. 1)")
    axis.set(title="times along the diffusion", ylabel="steps", ylim=(0, None))
    log_axis(axis)
    axis.legend()


def draw_training(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the steps of training at which samples come to resemble the data and become copies."""
    for name, colour, label in (("quality_step", "#56B4E9", "samples near the data"),
                                ("memorization_step", "#E69F00", "half of the memorization")):
        if len(part := of(table, name)):
            draw_band(axis, part, colour, label)
    axis.set(title="training time", ylabel="steps of training", yscale="log")
    log_axis(axis)
    axis.legend()


def draw_agreement(axis: Axes, table: pd.DataFrame) -> None:
    """Draw how alike two networks' samples are, and how near those are to images trained on."""
    draw_band(axis, of(table, "agreement"), "black", "between two networks")
    draw_band(axis, of(table, "closeness"), "#E69F00", "to the nearest image of S")
    axis.set(title="two networks, disjoint images", ylabel="cosine similarity", ylim=(-0.1, 1.05))
    log_axis(axis)
    axis.legend()


@drawing
@click.argument("name")
@metrics_option
def main(name: str, metrics: Path, outs: tuple[str, ...]) -> None:
    """Draw METRICS/{yardsticks,crossings,gaps}/NAME.csv, and those of NAME-time, where it exists."""
    run = Run(metrics)
    table, crossed = tables_of(run, "yardsticks", name), tables_of(run, "crossings", name)
    along = [draw for draw, needs in ((draw_training, "memorization_step"), (draw_agreement, "agreement"))
             if len(of(table, needs))]  # these need trainings of their own: scale yardsticks
    figure, axes = panels(4 + len(along), 1, COLUMN, 2.2 * (4 + len(along)))
    draw_curves(axes[0, 0], table, run.table("fractions", name))
    draw_crossings(axes[1, 0], crossed, run.table("fractions", name))
    draw_gaps(axes[2, 0], run.needed("gaps", name))
    draw_times(axes[3, 0], table, run.table("basin", name))
    for axis, draw in zip(axes[4:, 0], along, strict=True):
        draw(axis, table)
    click.echo(f"{save(figure, outs)}: {table.yardstick.nunique()} yardsticks of {name}")
