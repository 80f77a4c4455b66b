"""The toy model's transition: minima of the exact and the learned energy against K, and how flat their valley is."""

from collections.abc import Iterator

import click
import numpy as np
import pandas as pd

from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, COLUMN, Axes, drawing, legend_below, panels, save
from attractors.report.words import Table
from attractors.results.run import Run
from attractors.tables import read_csv, read_json


def findings(run: Run) -> Iterator[Table]:
    """Yield at how many K the exact energy has minima that belong to no training point alone, at each time."""
    if (table := run.table("toy_minima")) is not None:
        rows = []
        for t, part in table.groupby("t"):
            some = part.K[part.spurious > 0]
            rows.append([f"{t:g}", f"{len(some)} of {len(part)}", f"{some.min()}" if len(some) else ""])
        columns = ("t", "sizes K with minima that are no training point's own", "smallest such K")
        yield Table("Spurious minima of the exact energy", columns, rows)


FIGURE = Figure(
    __name__, "Not in the paper", "At which K do the toy model's spurious minima appear?",
    "The paper shows the toy model at three sizes K and one time.",
    stages=("toy_minima", "toy_evaluate"), pictures=("toy_minima",), tables=("toy_minima",), findings=findings,
    supplement=True,
)


def counts(axis: Axes, table: pd.DataFrame, learned: list[dict], t: float) -> None:
    """Draw the numbers of all and of spurious minima at time t.

    Lines are for the exact energy, and circles for the learned.
    """
    for name, colour in (("minima", COLOURS["training"]), ("spurious", COLOURS["spurious"])):
        axis.plot(
            table.K, table[name], "-", lw=1.2, color=colour, label=f"exact, {'all' if name == 'minima' else name}"
        )
        at_t = [(run["K"], row["learned"][name]) for run in learned for row in run["minima"] if row["t"] == t]
        if at_t:
            axis.plot(*zip(*at_t, strict=True), "o", ms=6, mfc="none", color=colour,
                      label=f"learned, {'all' if name == 'minima' else name}")
    axis.set(xscale="log", xlabel="training set size K", title=f"t = {t:g}", ylim=(-0.3, None))


@drawing
@click.argument("table", type=click.Path(exists=True, dir_okay=False))
@click.argument("learned", nargs=-1, type=click.Path(exists=True, dir_okay=False))
def main(table: str, learned: tuple[str, ...], outs: tuple[str, ...]) -> None:
    """Draw TABLE, the exact energy's minima, and the metrics LEARNED of the toy models."""
    table, learned = read_csv(table, "t", "K", "minima", "spurious"), [read_json(path) for path in learned]
    times = sorted(table.t.unique())
    from matplotlib import colormaps

    figure, axes = panels(-(-(len(times) + 1) // 2), 2, COLUMN, 0.95 * (len(times) + 2))
    axes = axes.flat[: len(times) + 1]
    for axis, t in zip(axes, times, strict=False):
        counts(axis, table[table.t == t], learned, t)
    axes[0].set_ylabel("minima of the energy")
    legend_below(figure, axes[0], "minima", 2)
    shades = colormaps["cividis"](np.linspace(0.1, 0.8, len(times)))
    for t, shade in zip(times, shades, strict=True):
        rows = table[(table.t == t) & (table.K > 1)]
        axes[-1].plot(rows.K, rows.ripple, lw=1.2, color=shade, label=f"exact, t = {t:g}")
    for t in sorted({run["t"] for run in learned}):
        runs = [run for run in learned if run["t"] == t]
        axes[-1].plot([run["K"] for run in runs], [run["ripple"]["exact_prior"] for run in runs], "o", ms=6, mfc="none",
                      color=COLOURS["training"], label=f"learned, t = {t:g}")
    axes[-1].axhline(1, color=COLOURS["training"], lw=0.8, ls=":")
    axes[-1].set(xscale="log", yscale="log", xlabel="training set size K", title="flatness of the valley",
                 ylabel=r"range of $\beta E$ along the circle")
    axes[-1].set_ylim(bottom=1e-3)
    axes[-1].legend(loc="lower left")
    click.echo(f"{save(figure, outs)}: minima at {len(times)} times")
