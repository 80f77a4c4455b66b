"""Compare the toy model of one K with its exact answer: energy, score, minima and samples (Fig. 2)."""

from pathlib import Path

import click
import numpy as np
import torch

from attractors.arrays import read_arrays, write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.denoisers.samplers import sample_noise
from attractors.files import file_hash
from attractors.settings.toy import ToyEvaluation
from attractors.tables import write_json
from attractors.theory.likelihood import reverse_sde
from attractors.theory.toy import ScoreNetwork, circle
from attractors.theory.toy_landscape import compare, grid


def read_score_network(path: str | Path) -> tuple[ScoreNetwork, np.ndarray]:
    """Return (network on the CPU, its training points: [K, 2]) from a file of `toy_train`.

    Raises ValueError naming the file where it is not a toy model.
    """
    weights, record = read_arrays(path)
    try:
        model = ScoreNetwork(record["seed"], **record["network"])
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        memories = circle(record["points"], record["seed"])[: record["size"]]
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a toy model of this repository ({str(error).splitlines()[0]})") from None
    return model.eval().requires_grad_(False), memories


@stage("toy_evaluate", settings=ToyEvaluation)
@click.option("--model", type=click.Path(dir_okay=False), required=True, help="The trained toy model.")
@seed_option
@device_option
@click.option("--metrics", type=click.Path(dir_okay=False), required=True, help="The metrics to write.")
@out_option
def main(model: str, seed: int, device: str, metrics: str, out: str, settings: ToyEvaluation) -> None:
    """Write maps of energy and score, samples and clusters to OUT, and their errors to METRICS."""
    path, device, (model, memories) = model, find_device(device), read_score_network(model)
    samples, steps = settings.samples, settings.steps
    noise = sample_noise(seed, range(samples), (2,), steps - 1, device)
    label = f"toy samples K={len(memories)}"
    with torch.inference_mode():
        drawn = reverse_sde(model.to(device), progress(noise, label, total=steps), model.sigma, steps=steps)
    values, arrays = compare(
        model.cpu().double(), memories, drawn.cpu().double().numpy(), grid(settings.extent, settings.side),
        settings.t, settings.times, settings.cluster_distance, settings.delta,
    )
    write_json(metrics, values)
    write_arrays(
        out, arrays, model_sha256=file_hash(path), seed=seed, t=settings.t, sigma=model.sigma,
        extent=settings.extent, side=settings.side, steps=steps, cluster_distance=settings.cluster_distance,
    )
    click.echo(
        f"{out}, {metrics}: {samples:,} samples, energy and score on a {settings.side}^2 grid at t = {settings.t:g}"
    )
