"""Train the denoiser of one run: network and settings from the sweep's file, images from the first K of a subset."""

from importlib import import_module

import click
import torch

from attractors.arrays import array_hash
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_of_replicate, stage
from attractors.data.images import read_images
from attractors.denoisers import acceleration
from attractors.denoisers.checkpoints import Checkpoint
from attractors.denoisers.distributed import rank, started_by_torchrun
from attractors.denoisers.models import new_model, write_model
from attractors.denoisers.training import train
from attractors.settings.acceleration import Computation
from attractors.settings.network import model_settings
from attractors.settings.train import Release, Training


@stage("train", sweep="required", settings=Training, release=Release, computation=Computation)
@click.option("--subset", type=click.Path(dir_okay=False), required=True, help="Images in subset order.")
@click.option("--size", type=click.IntRange(2), required=True, help="K, the number of training images.")
@seed_of_replicate
@device_option
@out_option
def main(
    sweep: dict, subset: str, size: int, seed: int, device: str, out: str, settings: Training, release: Release,
    computation: Computation,
) -> None:
    """Train on the first K images of SUBSET and write the averaged weights.

    A killed run continues where it stopped, and ends with the same bytes. On several GPUs, which share the same batch:
    torchrun --nproc-per-node N src/main.py train ... With --released, K.pt of that repository takes the place of
    training, once its K, seed, dataset, network and schedule are those of the run.
    """
    if release.released:  # by name, which `inputs` knows: that code is part of no sweep that trains
        fetch = import_module("attractors.denoisers.released").fetch
        click.echo(fetch(model_settings(sweep), subset, size, seed, out, release))
        return
    place = find_device(device)
    with started_by_torchrun(place):
        run(sweep, subset, size, seed, place, out, settings, computation)


def run(
    sweep: dict, subset: str, size: int, seed: int, device: torch.device, out: str, settings: Training,
    computation: Computation,
) -> None:
    """Train one run on one device, alone or as one of several processes."""
    described, images = model_settings(sweep), read_images(subset, size)
    faster = acceleration.chosen(device, **computation.model_dump(), network=described["network"]["name"])
    memories = torch.from_numpy(images)
    model = new_model(**described, image_shape=images.shape[1:], seed=seed, memories=memories).to(device)
    acceleration.accelerate(model.network, faster)
    record = {
        **described, "image_shape": list(images.shape[1:]), "size": size, "seed": seed, "train": settings.model_dump(),
        "step": settings.iterations, "subset_sha256": array_hash(images), **faster.record(),
    }
    checkpoint, first = Checkpoint(out, __file__, device, **record), rank() == 0
    label = f"train {sweep['name']} K={size}"
    weights = train(
        model, memories.to(device), settings, seed, checkpoint.load(device),
        checkpoint.save if first else lambda state: None,
        lambda steps: progress(steps, label, initial=steps.start, total=steps.stop, disable=not first),
    )
    if not first:
        return
    write_model(out, weights, **record)
    checkpoint.remove()
    parameters = sum(p.numel() for p in model.parameters())
    click.echo(f"{out}: {parameters:,} parameters after {settings.iterations:,} steps on {size} images")
