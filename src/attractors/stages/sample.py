"""Draw the synthetic set S' of one trained model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from attractors.arrays import read_record, write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_of_replicate, stage
from attractors.data.images import open_images
from attractors.denoisers import acceleration
from attractors.denoisers.checkpoints import Rows
from attractors.denoisers.models import read_model
from attractors.denoisers.samplers import ancestral, ddim, sample_noise
from attractors.files import file_hash
from attractors.settings.acceleration import Computation
from attractors.settings.sample import Sampling


@stage("sample", sweep=True, settings=Sampling, computation=Computation)
@click.option("--model", type=click.Path(dir_okay=False), required=True, help="The trained model.")
@seed_of_replicate
@device_option
@out_option
def main(
    sweep: dict | None, model: str, seed: int, device: str, out: str, settings: Sampling, computation: Computation
) -> None:
    """Draw max(RATIO x K, FLOOR) samples by 1,000-step ancestral DDPM (B.4), or by DDIM.

    Sample number i has its own random stream, whatever the batch size and the number of samples, and starts at the same
    noise with either sampler. Samples are written a batch at a time; a killed run goes on after its last batch, to the
    same bytes. With --synthetic-sets, the set K.npz in that folder takes their place, whole, and no model is evaluated.
    """
    if settings.synthetic_sets:
        copy(model, Path(settings.synthetic_sets), out)
        return
    device = find_device(device)
    path, (model, trained) = model, read_model(model, device)
    faster = acceleration.chosen(device, **computation.model_dump(), network=trained["network"]["name"])
    acceleration.accelerate(model.network, faster)
    ratio, floor, batch = settings.ratio, settings.floor, settings.batch
    count, shape = max(int(ratio * trained["size"]), floor), tuple(trained["image_shape"])
    record = {"model_sha256": file_hash(path), "seed": seed, "ratio": ratio, "floor": floor, **faster.record()}
    ddim_steps = settings.ddim_steps if settings.sampler == "ddim" else 0
    record |= {"sampler": "ddim", "steps": ddim_steps} if ddim_steps else {}
    rows = Rows(out, __file__, device, "images", (count, *shape), record, batch)
    label = f"sample {sweep['name'] if sweep else ''} K={trained['size']}"
    steps = ddim_steps or model.steps
    done, total = rows.done * steps, count * steps
    with progress(None, label, "evaluation", unit_scale=True, initial=done, total=total) as bar:
        for start in range(rows.done, count, batch):
            indices = range(start, min(start + batch, count))
            drawn = len(indices)

            def ticking(steps: range, drawn: Any = drawn) -> Iterator[int]:
                for step in steps:
                    yield step
                    bar.update(drawn)

            noise = sample_noise(seed, indices, shape, 0 if ddim_steps else model.steps, device)
            if ddim_steps:
                images = ddim(model, next(noise), model.steps - 1, ddim_steps, clip=True, progress=ticking)
            else:
                images = ancestral(model, noise, ticking)
            rows.append(images.cpu().numpy())
    rows.finish()
    click.echo(f"{out}: {count:,} samples of {path}")


def copy(model: str, folder: Path, out: str) -> None:
    """Write the synthetic set K.npz of `folder` as the samples of `model`, whose K and image shape it must have."""
    record = read_record(model)
    file = folder / f"{record['size']}.npz"
    if not file.is_file():
        raise ValueError(f"{file}: no such file; a folder of synthetic sets holds K.npz for every K of the sweep")
    images = open_images(file)
    if images.array.shape[1:] != (shape := tuple(record["image_shape"])):
        raise ValueError(f"{file}: images of {images.array.shape[1:]}; those of {model} are {shape}")
    write_arrays(out, {"images": images.array}, model_sha256=file_hash(model), source=file.name, sha256=file_hash(file))
    click.echo(f"{out}: {file}: {images.said}")
