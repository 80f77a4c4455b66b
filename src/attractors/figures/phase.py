"""The types of samples against the steps of training, for each K: is the transition a matter of time?"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pandas as pd

from attractors.arrays import read_arrays
from attractors.cli.stage import data_option, metrics_option
from attractors.distances.detection import TYPES
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, MARKERS, drawing, log_axis, panels, save
from attractors.tables import write_csv

COLUMNS = (*TYPES, "C_2", "error", "held_out")
FIGURE = Figure(
    __name__, "Not in the paper", "Do spurious samples vanish with more training?",
    "The transition is found at a fixed number of steps (B.4); theory speaks of the limit of long training.",
    stages=("phase",), pictures=("phase/{}",), tables=("phase/{}",), supplement=True,
)


def phase_table(folder: Path) -> pd.DataFrame:
    """Return one row for each K, training and step of the files in data/phase/SWEEP: shares, C_2, denoising errors.

    Raises ValueError where there is no file.
    """
    rows = []
    for path in sorted(folder.glob("[0-9]*.safetensors"), key=lambda path: int(path.stem)):
        arrays, record = read_arrays(path, "steps", *COLUMNS)
        for training in range(len(arrays["error"])):
            rows.append(pd.DataFrame({
                "K": record["size"], "replicate": training, "steps": arrays["steps"],
                "parameters": record["parameters"], **{key: arrays[key][training] for key in COLUMNS},
            }))
    if not rows:
        raise ValueError(f"{folder}: no files; python src/main.py phase writes them")
    return pd.concat(rows, ignore_index=True)


@drawing
@click.argument("name")
@data_option
@metrics_option
def main(name: str, data: Path, metrics: Path, outs: tuple[str, ...]) -> None:
    """Draw the files in DATA/phase/NAME, and write them as METRICS/phase/NAME.csv."""
    table = phase_table(data / "phase" / name)
    sizes = np.unique(table.K)
    figure, axes = panels(2, len(sizes), 2.5 * len(sizes), 4.4, sharex=True, sharey="row", height_ratios=[2, 1])
    for K, (top, bottom) in zip(sizes, axes.T, strict=True):
        part = table[table.K == K]
        means = part.groupby("steps")[list(COLUMNS)].mean()
        for kind in TYPES:
            top.plot(part.steps, part[kind], MARKERS[kind], ms=3, mfc="none", alpha=0.6, color=COLOURS[kind])
            top.plot(means.index, means[kind], "-", color=COLOURS[kind], label=kind)
        bottom.plot(means.index, means.held_out, "k-", label="images outside S")
        bottom.plot(means.index, means.error, "k:", label="images of S")
        log_axis(bottom, "steps of training")
        top.set(title=f"K = {K}", ylim=(-0.03, 1.03))
    axes[0, 0].set(ylabel="fraction of S'")
    axes[1, 0].set(ylabel="denoising error", ylim=(0, None))
    axes[0, 0].legend(fontsize=7)
    axes[1, 0].legend(fontsize=7)
    if len(sizes) > 1:  # one panel has no room for it
        figure.suptitle(FIGURE.title)
    write_csv(metrics / "phase" / f"{name}.csv", table)
    click.echo(f"{save(figure, outs)}: types along training of {name} at {len(sizes)} sizes")
