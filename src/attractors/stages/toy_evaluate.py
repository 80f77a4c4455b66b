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


@stage("toy_evaluate")
@click.option("--model", type=click.Path(dir_okay=False), required=True, help="The trained toy model.")
@click.option(
    "--t", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.15, help="The time looked at."
)
@click.option(
    "--extent", type=click.FloatRange(0, min_open=True), default=1.5, help="The grid covers [-extent, extent]^2."
)
@click.option("--side", type=click.IntRange(2), default=20, help="Points along a side of the grid.")
@click.option("--samples", type=click.IntRange(2), default=1000, help="Samples to draw.")
@click.option("--steps", type=click.IntRange(1), default=1000, help="Euler-Maruyama steps.")
@click.option("--cluster-distance", type=click.FloatRange(0, min_open=True), default=0.3, help="Clusters end here.")
@click.option(
    "--delta", type=click.FloatRange(0, min_open=True), default=0.1, help="Nearer to a point is a copy of it."
)
@click.option("--times", type=click.FloatRange(0, min_open=True), multiple=True, default=[0.01, 0.05, 0.15],
              help="Times at which minima are counted.")  # fmt: skip
@seed_option
@device_option
@click.option("--metrics", type=click.Path(dir_okay=False), required=True, help="The metrics to write.")
@out_option
def main(
    model: str,
    t: float,
    extent: float,
    side: int,
    samples: int,
    steps: int,
    cluster_distance: float,
    delta: float,
    times: tuple[float, ...],
    seed: int,
    device: str,
    metrics: str,
    out: str,
) -> None:
    """Write maps of energy and score, samples and clusters to OUT, and their errors to METRICS."""
    path, device, (model, memories) = model, find_device(device), read_score_network(model)
    noise = sample_noise(seed, range(samples), (2,), steps - 1, device)
    label = f"toy samples K={len(memories)}"
    with torch.inference_mode():
        drawn = reverse_sde(model.to(device), progress(noise, label, total=steps), model.sigma, steps=steps)
    values, arrays = compare(
        model.cpu().double(), memories, drawn.cpu().double().numpy(), grid(extent, side), t, times, cluster_distance,
        delta,
    )  # fmt: skip
    write_json(metrics, values)
    write_arrays(
        out, arrays, model_sha256=file_hash(path), seed=seed, t=t, sigma=model.sigma, extent=extent, side=side,
        steps=steps, cluster_distance=cluster_distance,
    )  # fmt: skip
    click.echo(f"{out}, {metrics}: {samples:,} samples, energy and score on a {side} x {side} grid at t = {t:g}")


if __name__ == "__main__":
    main()
