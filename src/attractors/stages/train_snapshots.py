"""Train a network as `train` does, and keep averages of its weights along the way."""

import click
import numpy as np
import torch
from torch import nn

from attractors.arrays import array_hash, write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_of_replicate, stage
from attractors.data.images import read_images
from attractors.denoisers.checkpoints import Checkpoint
from attractors.denoisers.models import new_model
from attractors.denoisers.training import CHECK_EVERY, train
from attractors.settings.network import model_settings
from attractors.settings.yardsticks import Snapshots
from attractors.yardsticks.training_time import snapshot_steps


@stage("train_snapshots", sweep="required", settings=Snapshots)
@click.option("--subset", type=click.Path(dir_okay=False), required=True, help="Images in subset order.")
@click.option("--size", type=click.IntRange(2), required=True, help="K, the number of training images.")
@click.option("--skip", type=click.IntRange(0), default=0, help="Images of SUBSET before the K that are trained on.")
@seed_of_replicate
@device_option
@out_option
def main(sweep: dict, subset: str, size: int, skip: int, seed: int, device: str, out: str, settings: Snapshots) -> None:
    """Train on SIZE images of SUBSET after the first SKIP, and write averages of the weights at log-spaced steps.

    OUT holds `weights` [m, P], all parameters of the network in one row for each of `steps` [m]; the last row is what
    `train` would have written. A killed run continues where it stopped, and ends with the same bytes.
    """
    device, described = find_device(device), model_settings(sweep)
    images = np.ascontiguousarray(read_images(subset, skip + size)[skip:])
    memories = torch.from_numpy(images)
    model = new_model(**described, image_shape=images.shape[1:], seed=seed, memories=memories).to(device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters or not settings.iterations:
        kind = described["network"]["name"]
        raise ValueError(f"sweep {sweep['name']}: a network of kind {kind} is not trained, so it has no snapshots")
    record = {
        **described, "image_shape": list(images.shape[1:]), "size": size, "skip": skip,
        "seed": seed, "train": settings.model_dump(), "subset_sha256": array_hash(images),
    }
    wanted = snapshot_steps(settings.iterations, settings.snapshots, CHECK_EVERY)
    checkpoint = Checkpoint(out, __file__, device, **record)
    state = checkpoint.load(device)
    kept = list(state.pop("snapshots")) if state else []

    def save(reached: dict) -> None:
        if reached["step"] in wanted[:-1]:
            kept.append(reached["average"].clone())
        checkpoint.save({**reached, "snapshots": torch.stack(kept) if kept else torch.empty(0)})

    train(
        model, memories.to(device), settings, seed, state, save,
        lambda steps: progress(steps, f"train {sweep['name']} K={size}", initial=steps.start, total=steps.stop),
    )
    kept.append(nn.utils.parameters_to_vector(parameters).detach())
    write_arrays(out, {"steps": np.array(wanted), "weights": torch.stack(kept).cpu().numpy()}, **record)
    checkpoint.remove()
    click.echo(f"{out}: {len(wanted)} snapshots of {kept[-1].numel():,} parameters, K = {size} after {skip}")
