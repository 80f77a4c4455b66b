"""Whether the transition hangs on the distance, and how good the samples of photographs are."""

from collections.abc import Iterator
from pathlib import Path

import click
import pandas as pd

from attractors.cli.stage import metrics_option
from attractors.distances.detection import DISTANCES
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, Axes, drawing, log_axis, panels, save
from attractors.report.words import Table
from attractors.results.run import Run

LABELS = {"l2": "L2", "lpips_alex": "LPIPS, AlexNet", "lpips_vgg": "LPIPS, VGG"}
STYLES = dict(zip(DISTANCES, ("s:", "o-", "^--"), strict=True))
GROUPS = {"copies": (COLOURS["memorized"], "copies"), "others": (COLOURS["generalized"], "all other samples"),
          "gaussian": (COLOURS["spurious"], "a Gaussian with S's mean and covariance"),
          "training": ("black", "images of S"), "held_out": ("grey", "other real images")}
FEWEST = 30  # images of a group; of fewer the kernel distance is noise
OCTAVES = ("power_1", "power_2", "power_3")


def findings(run: Run) -> Iterator[Table]:
    """Yield what samples that are no copies have of the sharpness and the fine detail of real images, by K."""
    rows = []
    for name in run.learned:
        if (table := run.table("quality", name)) is not None:
            for size, part in table[table.group == "others"].groupby("K"):
                means = part[["sharpness", *OCTAVES, "kernel_distance"]].mean()
                rows.append([name, f"{size}", *(f"{value:.2g}" for value in means)])
    if rows:
        columns = ("sweep", "K", "sharpness", "coarse detail", "middle", "fine", "kernel distance")
        yield Table("Samples that are no copies, in units of real images", columns, rows)


FIGURE = Figure(
    __name__, "Not in the paper", "Does the transition hang on the distance, and are the new samples pictures?",
    "The paper takes LPIPS (AlexNet) for photographs and counts each sample that is near no other as generalized, "
    "whatever it looks like.",
    stages=("quality",), pictures=("quality/{}",), tables=("quality/{}", "distances/{}"), findings=findings,
    supplement=True,
)


def draw_types(axes: list[Axes], table: pd.DataFrame) -> None:
    """Draw the memorized and the spurious fraction against K by each distance, and Table 2's range as a band."""
    for axis, kind in zip(axes, ("memorized", "spurious"), strict=True):
        for distance, part in table.groupby("distance"):
            means = part.pivot_table(index="K", columns="thresholds", values=kind)
            axis.plot(
                means.index, means.auto, STYLES[distance], ms=4, lw=1.2, color=COLOURS[kind], label=LABELS[distance]
            )
            if "least" in means:
                ends = means[["least", "greatest"]]
                axis.fill_between(means.index, ends.min(axis=1), ends.max(axis=1), color=COLOURS[kind], alpha=0.2, lw=0,
                                  label="Table 2, least to greatest")
        axis.set(title=f"{kind} fraction", ylim=(-0.03, 1.03))
        log_axis(axis)
        axis.legend(fontsize=7)


def draw_quality(axes: list[Axes], table: pd.DataFrame) -> None:
    """Draw the power in three octaves and the kernel distance of each group against K."""
    for group, (colour, label) in GROUPS.items():
        part = table[(table.group == group) & (table.n >= FEWEST)].groupby("K").mean(numeric_only=True)
        if group in ("copies", "others"):
            for octave, line in zip(OCTAVES, (":", "--", "-"), strict=True):
                axes[0].plot(part.index, part[octave], f"o{line}", ms=3, lw=1.2, color=colour)
        axes[1].plot(part.index, part.kernel_distance, "o-", ms=3, lw=1.2, color=colour, label=label)
    for line, words in ((":", "coarse detail"), ("--", "middle"), ("-", "fine")):
        axes[0].plot([], [], line, color="black", label=words)
    for axis, real in zip(axes, (1, 0), strict=True):
        axis.plot([table.K.min(), table.K.max()], [real, real], color="grey", lw=0.8)
    axes[0].set(title="power, in units of real images", ylim=(0, None))
    axes[1].set(title="kernel distance to real images")
    for axis in axes:
        log_axis(axis)
        axis.legend(fontsize=7)


@drawing
@click.argument("name")
@metrics_option
def main(name: str, metrics: Path, outs: tuple[str, ...]) -> None:
    """Draw METRICS/distances/NAME.csv and METRICS/quality/NAME.csv."""
    run = Run(metrics)
    shares = run.needed("distances", name, "K", "memorized", "spurious")
    table = run.needed("quality", name, "K", "n", *OCTAVES, "kernel_distance")
    figure, [axes] = panels(1, 4, 14, 3.4)
    draw_types(list(axes[:2]), shares)
    draw_quality(list(axes[2:]), table)
    click.echo(f"{save(figure, outs)}: {table.K.nunique()} sizes of {name}")
