"""Train the score network of the 2-D toy model on K points of the unit circle (A.2)."""

from dataclasses import asdict
from typing import Any

import click
import torch

from attractors.arrays import array_hash
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.denoisers.checkpoints import Checkpoint
from attractors.denoisers.models import write_model
from attractors.denoisers.training import Settings, train
from attractors.theory.toy import ScoreNetwork, circle, score_matching_loss


@stage("toy_train")
@click.option("--size", type=click.IntRange(1), required=True, help="K, the number of training points.")
@click.option("--points", type=click.IntRange(1), default=60_000, help="Points on the circle; the first K are S_K.")
@click.option("--sigma", type=click.FloatRange(0, min_open=True), default=1.0, help="dx = sigma dw.")
@click.option("--width", type=click.IntRange(1), default=256, help="Width of the network.")
@click.option("--blocks", type=click.IntRange(1), default=4, help="Residual blocks in the encoder and in the decoder.")
@click.option("--scale", type=click.FloatRange(0, min_open=True), default=4.0, help="Fourier frequencies of t.")
@click.option("--iterations", type=click.IntRange(0), default=800_000, help="Steps of training.")
@click.option("--batch", type=click.IntRange(1), default=500, help="Points a step.")
@click.option("--repeat/--no-repeat", default=False, help="Fill a batch larger than K by repeating points.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-4, help="Adam's step size.")
@click.option("--warmup", type=click.IntRange(0), default=0, help="Steps of linear warm-up.")
@click.option("--final-learning-rate", type=click.FloatRange(0, 1), default=1.0, help="Cosine decay to this fraction.")
@click.option("--ema", type=click.FloatRange(0, 1, max_open=True), default=0.9999, help="Decay of the weight average.")
@click.option("--clip", type=click.FloatRange(0, min_open=True), default=1.0, help="Bound on the gradient's norm.")
@seed_option
@device_option
@out_option
def main(
    size: int,
    points: int,
    sigma: float,
    width: int,
    blocks: int,
    scale: float,
    seed: int,
    device: str,
    out: str,
    **settings: Any,
) -> None:
    """Train on the first SIZE points and write the averaged weights.

    A killed run continues where it stopped, and ends with the same bytes.
    """
    if size > points:
        raise ValueError(f"--size {size}: there are --points {points:,}")
    settings, device = Settings(**settings), find_device(device)
    network: dict[str, Any] = {"width": width, "blocks": blocks, "scale": scale, "sigma": sigma}
    memories = circle(points, seed)[:size]
    model = ScoreNetwork(seed, **network).to(device)
    record = {
        "network": network, "size": size, "points": points, "seed": seed, "train": asdict(settings),
        "step": settings.iterations, "subset_sha256": array_hash(memories),
    }  # fmt: skip
    checkpoint = Checkpoint(out, __file__, device, **record)
    weights = train(
        model, torch.from_numpy(memories).float().to(device), settings, seed, checkpoint.load(device), checkpoint.save,
        lambda steps: progress(steps, f"toy K={size}", initial=steps.start, total=steps.stop),
        score_matching_loss,
    )  # fmt: skip
    write_model(out, weights, **record)
    checkpoint.remove()
    parameters = sum(p.numel() for p in model.parameters())
    click.echo(f"{out}: {parameters:,} parameters after {settings.iterations:,} steps on {size} points")


if __name__ == "__main__":
    main()
