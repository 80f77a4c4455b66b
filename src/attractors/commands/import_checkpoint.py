"""Bring a model or a synthetic set made elsewhere into this pipeline."""

from pathlib import Path

import click
import torch

from attractors.arrays import write_arrays
from attractors.cli.images import range_option
from attractors.cli.stage import out_option, stage
from attractors.data.archives import NoImagesError, are_weights, tensors
from attractors.data.images import Images, divided, open_images
from attractors.data.kinds import kind_of_set
from attractors.data.unpickling import read_torch
from attractors.denoisers.code import from_code, is_code
from attractors.denoisers.diffusers_folder import is_model
from attractors.denoisers.foreign import from_authors, from_diffusers, noise_error
from attractors.denoisers.models import new_model, write_model
from attractors.files import file_hash


def holds_images(path: Path) -> bool:
    """Return whether PATH is a set of images rather than a model, by its content."""
    file, name = divided(path)
    if file.is_dir():
        return not is_model(file)
    if name is not None or kind_of_set(file) != "torch":
        return True
    content = read_torch(file)
    model = are_weights(tensors(content)) or (isinstance(content, dict) and "args" in content)
    return bool(tensors(content)) and not model


def images_of(path: Path, values: str | None) -> Images:
    """Return the images in PATH. Raises ValueError, saying what a model needs, for a folder of weights alone."""
    try:
        return open_images(path, values=values)
    except NoImagesError as error:
        if not path.is_dir():
            raise
        raise ValueError(
            f"{error}; a checkpoint of the authors' is given by its file, and a folder of diffusers has a config.json"
        ) from None


@stage("import_checkpoint")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--size", type=click.IntRange(2), help="K, the number of training images.  [default: as in the file]")
@click.option("--image-size", type=click.IntRange(1), help="Pixels to a side, where the model's file names none.")
@range_option
@click.option("--check/--no-check", default=True, help="Refuse a noise prediction that does not recognise pure noise.")
@out_option
def main(path: Path, size: int | None, image_size: int | None, values: str | None, check: bool, out: str) -> None:
    """Turn PATH into a model or a synthetic set of this pipeline, which sample, basin, ... and neighbours then read.

    PATH: a checkpoint (.pt) of the authors' train_unet.py; a folder of diffusers' DDPMPipeline, UNet2DModel or
    DiTTransformer2DModel, also as the hub's cache keeps it; or a synthetic set: .npz, .npy, .zip, tensors (.pt), a
    folder of such, or of pictures; FILE:NAME is one of several arrays. No code in any of them is run. FILE.py:NAME is
    a function of your own code that returns attractors.denoiser(...), and is run, here and where the model is read.
    """
    if is_code(path):
        if not size:
            raise ValueError(f"{path}: does not say how many images it was trained on; --size does")
        model, record = from_code(str(path), size)
        write_model(out, model.state_dict(), **record, seed=0, size=size)
        parameters = sum(p.numel() for p in model.parameters())
        click.echo(f"{out}: {parameters:,} parameters of {path}, K = {size}; it predicts {model.prediction}, "
                   f"and is given {model.level}")
        return
    file, _ = divided(path)
    if not file.exists():
        raise click.BadParameter(f"{path}: no such file or folder", param_hint="PATH")
    if holds_images(path):
        images = images_of(path, values)
        write_arrays(
            out, {"images": images.array}, source=path.name, **({} if file.is_dir() else {"sha256": file_hash(file)})
        )
        click.echo(f"{out}: {path}: {images.said}")
        return
    weights, record, notes = (
        from_diffusers(path, (image_size, image_size) if image_size else None) if path.is_dir() else from_authors(path)
    )
    if not (size := size or record.get("size")):
        raise ValueError(f"{path}: does not say how many images it was trained on; --size does")
    try:
        model = new_model(record["network"], record["diffusion"], record["image_shape"], 0, torch.empty(0))
        model.network.load_state_dict(weights)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {str(error).splitlines()[-1].strip()}") from None
    error = noise_error(model.eval(), record["image_shape"]) if model.prediction == "noise" else None
    if check and error is not None and not error < 0.25:
        raise ValueError(
            f"{path}: takes pure noise for something else (mean squared error {error:.3g}, 1 for chance): "
            "weights in the wrong layers, or untrained; --no-check imports them all the same"
        )
    write_model(out, model.state_dict(), **{"seed": 0, "source": path.name, **record, "size": size})
    parameters = sum(p.numel() for p in model.parameters())
    found = "" if error is None else f"; squared error on pure noise {error:.3g}"
    click.echo(f"{out}: {parameters:,} parameters of {path}, K = {size}{found}")
    for note in notes:
        click.echo(f"not kept: {note}")
