"""How the transition moves with the parameters of the network, over all learned sweeps of a dataset (Figs. 7 and 8)."""

from pathlib import Path

import click
import torch

from attractors.arrays import read_record
from attractors.cli.settings import ROOT, read_runs, read_yaml
from attractors.cli.stage import data_option, metrics_option, seed_option, stage
from attractors.denoisers.models import new_model
from attractors.randomness import REPLICATES, generator
from attractors.results.run import Run
from attractors.results.widths import exponent_in_words, widths_table
from attractors.tables import write_csv, write_json


def parameters_of(sweep: dict, image_shape: tuple[int, ...]) -> int:
    """Return the number of parameters of the network that a sweep's file describes, for images of (C, H, W)."""
    with torch.device("meta"):
        model = new_model(sweep["network"], sweep.get("diffusion") or {}, image_shape, 0, torch.zeros(2, *image_shape))
        return sum(p.numel() for p in model.parameters())


@stage("widths")
@click.argument("dataset")
@seed_option
@data_option
@metrics_option
def main(dataset: str, seed: int, data: Path, metrics: Path) -> None:
    """Write METRICS/widths/DATASET.csv and .json: at which K the learned sweeps of DATASET have their transition."""
    run = Run(metrics)
    names = [name for name, sweep in read_runs(ROOT / "runs.yaml")["learned"].items() if sweep["dataset"] == dataset]
    shape = tuple(read_record(data / "subsets" / f"{dataset}.safetensors")["shape"])
    parameters = {name: parameters_of(read_yaml(ROOT / "sweeps" / f"{name}.yaml"), shape) for name in names}
    single = {name: run.replicates("fractions", name) for name in names}
    if missing := [name for name, table in single.items() if table is None]:
        raise ValueError(f"{metrics}/fractions/{missing[0]}.csv: no such file")
    table, exponents = widths_table(parameters, single, generator(seed, REPLICATES, 2))
    write_csv(metrics / "widths" / f"{dataset}.csv", table)
    write_json(metrics / "widths" / f"{dataset}.json", exponents)
    half, peak = (exponent_in_words(exponents, name) for name in ("half_memorized", "spurious_peak"))
    click.echo(f"{metrics}/widths/{dataset}.csv: {len(names)} sweeps; half-crossing {half}, peak {peak}")
