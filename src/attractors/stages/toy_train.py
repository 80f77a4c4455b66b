"""Train the score network of the 2-D toy model on K points of the unit circle (A.2)."""

from typing import Any

import click
import torch

from attractors.arrays import array_hash
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.denoisers.checkpoints import Checkpoint
from attractors.denoisers.models import write_model
from attractors.denoisers.training import train
from attractors.settings.toy import Circle, ScoreMLP, ToyOptimisation
from attractors.theory.toy import ScoreNetwork, circle, score_matching_loss


@stage("toy_train", data=Circle, network=ScoreMLP, settings=ToyOptimisation)
@click.option("--size", type=click.IntRange(1), required=True, help="K, the number of training points.")
@seed_option
@device_option
@out_option
def main(
    size: int, seed: int, device: str, out: str, data: Circle, network: ScoreMLP, settings: ToyOptimisation
) -> None:
    """Train on the first SIZE points and write the averaged weights.

    A killed run continues where it stopped, and ends with the same bytes.
    """
    if size > data.points:
        raise ValueError(f"--size {size}: there are --points {data.points:,}")
    device = find_device(device)
    described: dict[str, Any] = {**network.model_dump(), "sigma": data.sigma}
    memories = circle(data.points, seed)[:size]
    model = ScoreNetwork(seed, **described).to(device)
    record = {
        "network": described, "size": size, "points": data.points, "seed": seed, "train": settings.model_dump(),
        "step": settings.iterations, "subset_sha256": array_hash(memories),
    }
    checkpoint = Checkpoint(out, __file__, device, **record)
    weights = train(
        model, torch.from_numpy(memories).float().to(device), settings, seed, checkpoint.load(device), checkpoint.save,
        lambda steps: progress(steps, f"toy K={size}", initial=steps.start, total=steps.stop),
        score_matching_loss,
    )
    write_model(out, weights, **record)
    checkpoint.remove()
    parameters = sum(p.numel() for p in model.parameters())
    click.echo(f"{out}: {parameters:,} parameters after {settings.iterations:,} steps on {size} points")
