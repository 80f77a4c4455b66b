"""The common look of all figures: colours, and files whose bytes depend only on what they show.

Matplotlib is imported when the first figure is drawn, so that the registry of figures can be read without it. Its
pyplot is never imported, because nothing here needs it and its windows take as long to import as the rest.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from attractors.cli.stage import Stage
from attractors.files import atomic

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = object  # for annotations

# Okabe and Ito's palette: distinct for every kind of colour vision, in print and on screen.
COLOURS = {"memorized": "#0072B2", "spurious": "#D55E00", "generalized": "#009E73", "training": "#000000"}
MARKERS = {"memorized": "o", "spurious": "^", "generalized": "s", "training": "D"}
COLUMN = 3.4  # inches: a column of a paper, and a phone; no letter there is smaller than 7 points
TRAINING, SYNTHETIC = "#8A8D0F", "#888888"  # distances to S (the paper's olive) and within S' (its grey)
# Formats of figures by suffix, each with the metadata that would say when and by which program a file was written.
FORMATS = {
    ".png": {"Software": None}, ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    ".svg": {"Date": None, "Creator": None},
}
LOOK = {
    "figure.dpi": 200, "savefig.dpi": 200, "font.size": 8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 8, "legend.frameon": False, "legend.fontsize": 7, "legend.title_fontsize": 7,
    "xtick.labelsize": 7, "ytick.labelsize": 7, "pdf.fonttype": 42, "svg.hashsalt": "attractors",
}


def canvas(width: float, height: float, constrained: bool = True) -> Figure:
    """An empty figure of `width` by `height` inches; `constrained` lets it make room for labels when it is saved."""
    os.environ["MPLBACKEND"] = "agg"  # the name of a backend that is not installed would stop the import
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcdefaults()  # whatever the matplotlibrc of a user says
    matplotlib.rcParams.update(LOOK)
    figure = Figure((width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def panels(rows: int, columns: int, width: float, height: float, **options: object) -> tuple[Figure, np.ndarray]:
    """Return a figure of `width` by `height` inches and its axes: [rows, columns]. options: as of `Figure.subplots`."""
    figure = canvas(width, height)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def grid(
    count: int, width: float, height: float, right: float = 0.1, top: float = 0.3, between: float = 0.25,
    columns: int = 4, below: float = 0.6, **options: object,
) -> tuple[Figure, np.ndarray]:
    """Return a figure of `count` equal panels in rows of `columns`, and its axes: [rows, columns]; spare axes are
    hidden.

    width, height: of each panel in inches. right, top: margins of the figure, between, below: from column to column
    and from row to row, in inches. Fixed places spare matplotlib from measuring all labels several times, which takes
    seconds for a dozen panels.
    """
    columns = min(columns, count)
    rows, (left, bottom) = -(-count // columns), (0.6, 0.45)
    whole = columns * (width + between) - between + left + right, rows * (height + below) - below + bottom + top
    figure = canvas(*whole, constrained=False)
    edges = {"left": left / whole[0], "right": 1 - right / whole[0], "bottom": bottom / whole[1]}
    edges |= {"top": 1 - top / whole[1], "wspace": between / width, "hspace": below / height}
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=edges, **options)
    for axis in axes.flat[count:]:
        axis.axis("off")
    return figure, axes


def share(axes: np.ndarray, columns: int, y: bool = True) -> None:
    """Give the panels of a grid, in reading order, the axes of the first, with numbers at the lowest and left edges."""
    for number, axis in enumerate(axes):
        if number:
            axis.sharex(axes[0])
            if y:
                axis.sharey(axes[0])
        axis.tick_params(labelbottom=number + columns >= len(axes), labelleft=y and number % columns == 0)


def log_scale(axis: Axes, **names: str) -> None:
    """Make axes of `axis` logarithmic (xscale="log") with plain numbers at powers of ten, which are quick to draw."""
    axis.set(**names)
    axis.minorticks_off()
    for name in names:
        direction = getattr(axis, f"{name[0]}axis")
        low, high = direction.get_view_interval()
        if high < 50 * low:  # powers of ten alone would be one or none
            direction.get_major_locator().set_params(subs=(1, 2, 5))
        direction.set_major_formatter("{x:g}")


def log_axis(axis: Axes, label: str | None = "training set size K") -> None:
    """Make x an axis of powers of two, as K is, with plain numbers at its ticks."""
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")
    if label:
        axis.set_xlabel(label)


def pixels(image: np.ndarray) -> np.ndarray:
    """Return an image: [C, H, W] in [-1, 1] as matplotlib draws it: [H, W] or [H, W, 3] in [0, 1]."""
    return np.clip(image.transpose(1, 2, 0) / 2 + 0.5, 0, 1).squeeze()


def means_by_type(axis: Axes, table: pd.DataFrame, control: pd.DataFrame | None, column: str) -> None:
    """Draw the mean of a column of each type against K with a bar of its 95% interval, the types side by side.

    control: the same of the exact denoiser, as dashed lines with crosses. Training images are hollow and dotted.
    """
    for place, (kind, marker) in enumerate(MARKERS.items()):
        part, known = table[table.type == kind], kind == "training"
        error = (part["quantile"] * part[f"{column}_se"]).fillna(0)
        axis.errorbar(part.K * 2 ** (0.14 * place - 0.21), part[column], error, fmt=marker, ms=3.5, lw=1,
                      ls=":" if known else "-", mfc="white" if known else None, color=COLOURS[kind], label=kind)
        if control is not None and len(part := control[control.type == kind]):
            axis.plot(part.K, part[column], "x--", ms=4, lw=0.8, color=COLOURS[kind])
    if control is not None:
        axis.plot([], [], "x--", ms=4, lw=0.8, color="black", label="exact denoiser")
    log_axis(axis)


def means_panels(
    table: pd.DataFrame, control: pd.DataFrame | None, labels: dict[str, str]
) -> tuple[Figure, np.ndarray]:
    """Return a figure of `means_by_type` of the columns of `labels`, one below the other, and its axes: [columns]."""
    figure, axes = panels(len(labels), 1, COLUMN, 2.1 * len(labels) + 0.4, sharex=True)
    for axis, (column, label) in zip(axes[:, 0], labels.items(), strict=True):
        means_by_type(axis, table, control, column)
        axis.set(xlabel="training set size K" if axis is axes[-1, 0] else "", ylabel=label)
    return figure, axes[:, 0]


def legend_below(figure: Figure, axis: Axes, title: str, columns: int = 3, **options: object) -> None:
    """Put the legend of one panel below all panels of a figure that `panels` made."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=columns, title=title, **options)


def _paths(context: click.Context, parameter: click.Parameter, outs: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [out for out in outs if Path(out).suffix not in FORMATS]:
        raise click.BadParameter(f"{wrong[0]}: a figure ends in {', '.join(FORMATS)}")
    return outs


def drawing(function: Any) -> Stage:
    """Make the command that draws a figure: a function of its arguments and options, and of `outs`, the files to write.
    """
    click.option("--out", "outs", multiple=True, required=True, callback=_paths,
                 help=f"The figure to write ({', '.join(FORMATS)}). May be given several times.")(function)
    function.__click_params__.insert(0, function.__click_params__.pop())  # --help shows it last
    return click.command(cls=Stage)(function)


def save(figure: Figure, outs: Sequence[str]) -> str:
    """Write the figure to each of the paths, without dates or program versions; return the paths in words.

    outs: their suffixes, each one of FORMATS, decide on the formats. The layout is computed once and holds for all.
    """
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)  # else it is computed again for each file
    for out in outs:
        with atomic(out) as temporary:
            figure.savefig(temporary, metadata=FORMATS[Path(out).suffix])
    return ", ".join(outs)
