"""Train the denoiser of one run: network and settings from the sweep's file, images from the first K of a subset."""

from dataclasses import asdict

import click
import torch

from attractors.arrays import array_hash
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.data.images import read_images
from attractors.denoisers import acceleration
from attractors.denoisers.checkpoints import Checkpoint
from attractors.denoisers.models import new_model, write_model
from attractors.denoisers.processes import rank, started_by_torchrun
from attractors.denoisers.training import NOISE_LEVELS, Settings, train


@stage("train", sweep="required")
@click.option("--subset", type=click.Path(dir_okay=False), required=True, help="Images in subset order.")
@click.option("--size", type=click.IntRange(2), required=True, help="K, the number of training images.")
@click.option("--iterations", type=click.IntRange(0), default=400_000, help="Steps of training.")
@click.option("--batch", type=click.IntRange(1), default=128, help="Images a step.")
@click.option("--repeat/--no-repeat", default=False, help="Fill a batch larger than K by repeating images.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=2e-4, help="Adam's step size.")
@click.option("--warmup", type=click.IntRange(0), default=0, help="Steps of linear warm-up.")
@click.option("--final-learning-rate", type=click.FloatRange(0, 1), default=1.0, help="Cosine decay to this fraction.")
@click.option("--ema", type=click.FloatRange(0, 1, max_open=True), default=0.9999, help="Decay of the weight average.")
@click.option("--clip", type=click.FloatRange(0, min_open=True), default=1.0, help="Bound on the gradient's norm.")
@click.option("--noise-levels", type=click.Choice(NOISE_LEVELS), default="uniform", help="How t is drawn.")
@acceleration.options
@seed_option
@device_option
@out_option
def main(sweep, subset, size, seed, device, out, precision, channels_last, compile, **settings):
    """Train on the first K images of SUBSET and write the averaged weights.

    Resumes by itself after a kill, and ends with the same bytes. On several GPUs, with the same batch shared among
    them: torchrun --nproc-per-node N src/main.py train ...
    """
    device = find_device(device)
    with started_by_torchrun(device):
        network = sweep.get("network")
        name = network.get("name") if isinstance(network, dict) else None
        faster = acceleration.chosen(device, precision, channels_last, compile, name)
        run(sweep, subset, size, seed, device, out, faster, Settings(**settings))


def run(sweep, subset, size, seed, device, out, faster, settings):
    """Train one run on one device, alone or as one of several processes."""
    images = read_images(subset, size)
    network, diffusion = sweep.get("network", {}), sweep.get("diffusion", {})
    memories = torch.from_numpy(images)
    model = new_model(network, diffusion, images.shape[1:], seed, memories).to(device)
    acceleration.accelerate(model.network, faster)
    record = {
        "network": network, "diffusion": diffusion, "image_shape": list(images.shape[1:]), "size": size,
        "seed": seed, "train": asdict(settings), "step": settings.iterations, "subset_sha256": array_hash(images),
        **faster.record(),
    }  # fmt: skip
    checkpoint, first = Checkpoint(out, __file__, device, **record), rank() == 0
    label = f"train {sweep['name']} K={size}"
    weights = train(
        model, memories.to(device), settings, seed, checkpoint.load(device),
        checkpoint.save if first else lambda state: None,
        lambda steps: progress(steps, label, initial=steps.start, total=steps.stop, disable=not first),
    )  # fmt: skip
    if not first:
        return
    write_model(out, weights, **record)
    checkpoint.remove()
    parameters = sum(p.numel() for p in model.parameters())
    click.echo(f"{out}: {parameters:,} parameters after {settings.iterations:,} steps on {size} images")


if __name__ == "__main__":
    main()
