"""Figs. 7 and 8: fractions of networks of several sizes, and how the transition moves with their parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from attractors.arrays import read_record
from attractors.cli.settings import ROOT, read_runs, read_yaml
from attractors.cli.stage import Stage
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, figure_option, log_axis, log_scale, panels, save
from attractors.results.run import Run
from attractors.tables import read_json, write_csv, write_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MARKS = {"half_memorized_K": ("memorized", "memorized falls to 1/2"), "spurious_peak_K": ("spurious", "spurious peak")}


def in_words(found: dict, name: str) -> str:
    """Return an exponent with its interval, or that there is none."""
    values = [found[f"{name}_exponent{end}"] for end in ("", "_low", "_high")]
    return "no exponent" if None in values else "exponent {:g} ({:g} to {:g})".format(*values)


def findings(run: Run) -> Iterator[str]:
    """Yield how the K of the half and of the peak grow with the number of parameters, for each dataset with several
    widths.
    """
    for path in sorted((run.metrics / "widths").glob("*.json")):
        found = read_json(path)
        half, peak = (in_words(found, key) for key in ("half_memorized", "spurious_peak"))
        yield (
            f"{path.stem}: the K at which memorized samples fall to one half grows with the parameters of the network "
            f"with {half}, that of the spurious peak with {peak}."
        )


FIGURE = Figure(
    __name__,
    "7, 8",
    "Wider networks remember more",
    "Capacity grows with the parameters of the network, so that the transition and the spurious peak move to larger K.",
    stages=("classify",),
    pictures=("widths/{}",),
    tables=("widths/{}",),
    findings=findings,
)


def parameters_of(sweep: dict, image_shape: tuple[int, ...]) -> int:
    """Return the number of parameters of the network that a sweep's file describes, for images of (C, H, W)."""
    import torch

    from attractors.denoisers.models import new_model

    with torch.device("meta"):
        model = new_model(sweep["network"], sweep.get("diffusion") or {}, image_shape, 0, torch.zeros(2, *image_shape))
        return sum(p.numel() for p in model.parameters())


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


@click.command(cls=Stage)
@click.argument("dataset")
@click.option(
    "--metrics", type=click.Path(file_okay=False, path_type=Path), default="metrics", help="Folder of tables."
)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), default="data", help="Folder of subsets.")
@figure_option
def main(dataset: str, metrics: Path, data: Path, outs: tuple[str, ...]) -> None:
    """Draw the sweeps of DATASET in runs.yaml that are learned, and write METRICS/widths/DATASET.csv and .json."""
    from attractors.randomness import REPLICATES, generator
    from attractors.results.widths import widths_table

    run = Run(metrics)
    names = [name for name, sweep in read_runs(ROOT / "runs.yaml")["learned"].items() if sweep["dataset"] == dataset]
    shape = tuple(read_record(data / "subsets" / f"{dataset}.safetensors")["shape"])
    parameters = {name: parameters_of(read_yaml(ROOT / "sweeps" / f"{name}.yaml"), shape) for name in names}
    single = {name: run.replicates("fractions", name) for name in names}
    if missing := [name for name, table in single.items() if table is None]:
        raise ValueError(f"{metrics}/fractions/{missing[0]}.csv: no such file")
    table, found = widths_table(parameters, single, generator(3407, REPLICATES, 2))
    figure, [axes] = panels(1, 3, 11, 3.6)
    draw(list(axes), table, single, run)
    write_csv(metrics / "widths" / f"{dataset}.csv", table)
    write_json(metrics / "widths" / f"{dataset}.json", found)
    half, peak = (in_words(found, name) for name in ("half_memorized", "spurious_peak"))
    click.echo(f"{save(figure, outs)}: {len(names)} sweeps of {dataset}; half-crossing {half}, peak {peak}")


if __name__ == "__main__":
    main()
