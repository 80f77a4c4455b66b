"""How cost grows with the size of the problem: plots/scaling.png and benchmarks/scaling.csv. make scaling

Processor time, of one thread, and peak memory of neighbours (K images of MNIST against 4 K others), critical time
(number of patterns), spectra (pixels N) and `dvc status` (number of stages), each in a process of its own, beside the
way without what is done here: products of whole features, a search that ends for all patterns at once, and the singular
values of M itself. A straight line of slope p in both logarithms is a power law: p is fitted to the upper half of the
sizes.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import click
import numpy as np
import pandas as pd

try:
    import resource
except ImportError:
    sys.exit("scaling.py measures memory with Python's module resource, which Windows has not; use Linux, macOS or WSL")

from attractors.cli.settings import ROOT
from attractors.figures.style import panels, save
from attractors.tables import write_csv

SIZES = {
    "neighbours": [750, 1500, 3000, 6000, 12_000],
    "critical time": [8, 16, 32, 64, 128],
    "spectrum": [64, 144, 256, 400, 784],
    "dvc status": [1, 2, 4, 8],
}
AXES = {
    "neighbours": "images K; 4 K queries", "critical time": "patterns", "spectrum": "pixels N", "dvc status": "stages"
}
COLOURS = {"seconds": "#0072B2", "MiB": "#D55E00"}
HERE, PLAIN = "here", "plain"
PLAINLY = {"neighbours": "whole features", "critical time": "batch-global", "spectrum": "svdvals of M"}


def _model(shape):
    import torch

    from attractors.denoisers.diffusion import Diffusion, linear_betas
    from attractors.denoisers.networks import build
    from attractors.settings.network import MLP

    torch.manual_seed(0)
    network = build(MLP(width=256, blocks=3), shape, torch.cumprod(1 - linear_betas(), 0))
    torch.nn.init.normal_(network.output.weight, std=0.1)
    return Diffusion(network, linear_betas()).eval().requires_grad_(False)


def work(part, size, way):
    """The function to time: everything it needs is already there."""
    import torch
    from parts import handwriting, without_axes
    from transcriptions import batch_global_search, materialised

    torch.set_num_threads(1)
    if part == "neighbours":
        from attractors.distances.neighbours import nearest

        x, y = handwriting(5 * size).flatten(1).split([4 * size, size])
        return without_axes(lambda: nearest(x, y)) if way == PLAIN else lambda: nearest(x, y)
    if part == "critical time":
        from attractors.landscape.critical_times import critical_times

        model, x = _model((1, 8, 8)), torch.randn(size, 1, 8, 8)
        search = batch_global_search if way == PLAIN else critical_times
        # With this delta_d everything counts as recovered: every pattern is tried at the same 10 times.
        return lambda: search(model, x, range(size), 0, delta_d=1e9, stride=99)
    from attractors.landscape.curvature import central_difference

    side = int(size**0.5)
    model, x = _model((1, side, side)), torch.randn(1, 1, side, side)
    if way == PLAIN:
        return lambda: torch.linalg.svdvals(materialised(model, x[0], 0, 0).double())
    return lambda: central_difference(model, x, [0], 0)


def measured(part, size, way):
    """In a process of its own: (seconds, MiB at the peak beyond those at the start)."""
    code = f"import scaling; scaling.measure({part!r}, {size}, {way!r})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, check=False, capture_output=True, encoding="utf-8", env=environment)
    if ended.returncode:
        raise click.ClickException(f"{part}, {size}: {ended.stderr.strip().splitlines()[-1]}")
    return tuple(map(float, ended.stdout.split()))


def measure(part, size, way):
    if part == "dvc status":
        print(*status(size))
        return
    function, forget = work(part, size, way), Path("/proc/self/clear_refs")
    if forget.exists():  # Linux: the peak of reading the images is none of what is measured
        forget.write_text("5", encoding="utf-8")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    function()
    print(time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def status(repeats):
    """(seconds, MiB, stages) of `dvc status` in a repository with 8 `repeats` runs of the first sweep."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, folder], check=True)
        for lock in ("dvc.lock", "models/dvc.lock"):
            (Path(folder) / lock).unlink(missing_ok=True)  # so that every stage is named
        runs = yaml.load(ROOT / "runs.yaml")
        run = next(iter(runs["runs"].values()))
        runs["runs"] = {f"{run['sweep']}-{K}": {**run, "size": K} for K in range(2, 2 + 8 * repeats)}
        with open(Path(folder) / "runs.yaml", "w", encoding="utf-8") as file:
            yaml.dump(runs, file)
        command = [sys.executable, "-m", "dvc", "status", "--json"]
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        output = subprocess.run(command, cwd=folder, check=True, capture_output=True, encoding="utf-8", env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return taken, after.ru_maxrss / 1024, len(json.loads(output.stdout))


def exponent(sizes, values):
    """The slope of log(value) over log(size) in the upper half of the sizes."""
    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(values[half:]), 1)[0])


def draw(table):
    figure, grid = panels(2, 4, 11, 4.8, sharex="col")
    for column, (part, rows) in zip(grid.T, table.groupby("part", sort=False), strict=True):
        for axes, (unit, colour) in zip(column, COLOURS.items(), strict=True):
            for way, timed in rows.groupby("way", sort=False):
                sizes, values = timed["size"].to_numpy(), timed[unit].to_numpy()
                p, half, shade = exponent(sizes, values), len(sizes) // 2, colour if way == HERE else "0.55"
                middle = np.exp(np.log(values[half:]).mean() - p * np.log(sizes[half:]).mean())
                words = f"{PLAINLY[part]}: exponent {p:.2f}" if way == PLAIN else f"exponent {p:.2f}"
                axes.loglog(sizes, values, "o", color=shade, ms=4)
                axes.loglog(sizes[half:], middle * sizes[half:] ** p, color=shade, lw=1, label=words)
            axes.set_title(part)
            axes.legend(fontsize=7, frameon=False, loc="upper left")
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=7)
            axes.minorticks_off()
            values = rows[unit].to_numpy()
            middle = np.sqrt(values.min() * values.max())
            reach = 10 ** (max(2.2, np.log10(values.max() / values.min()) + 0.8) / 2)
            axes.set_ylim(middle / reach, middle * reach)  # at least two decades: what is flat looks flat
        column[1].set_xlabel(AXES[part])
    grid[0, 0].set_ylabel("processor time [s]")
    grid[1, 0].set_ylabel("peak memory [MiB]")
    return figure


@click.command(context_settings={"show_default": True})
@click.option("--only", type=click.Choice(list(SIZES)), multiple=True, help="Measure these again; keep the others.")
@click.option("--out", default=ROOT / "plots" / "scaling.png", type=click.Path(path_type=Path), help="The figure.")
@click.option("--table", default=ROOT / "benchmarks" / "scaling.csv", type=click.Path(path_type=Path), help="The CSV.")
def main(only, out, table):
    """Measure time and memory against size; write a table and a figure."""
    old, rows = (pd.read_csv(table) if table.exists() else None), []
    for part, sizes in SIZES.items():
        if only and part not in only:
            rows += old[old.part == part].to_dict("records")
            continue
        for way, size in itertools.product((HERE, PLAIN) if part in PLAINLY else (HERE,), sizes):
            seconds, memory, *stages = measured(part, size, way)
            where = {"part": part, "way": way, "size": int(stages[0]) if stages else size}
            rows.append({**where, "seconds": seconds, "MiB": memory})
            click.echo(rows[-1])
    content = pd.DataFrame(rows)
    write_csv(table, content)
    click.echo(f"{table}, {save(draw(content), [str(out)])}")


if __name__ == "__main__":
    main()
