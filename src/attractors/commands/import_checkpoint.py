"""Bring a model or a synthetic set made elsewhere into this pipeline."""

from pathlib import Path

import click
import numpy as np

from attractors.arrays import write_arrays
from attractors.cli.stage import out_option, stage
from attractors.data.images import read_images
from attractors.denoisers.foreign import from_authors, from_diffusers, noise_error
from attractors.denoisers.models import new_model, write_model
from attractors.files import file_hash

ARCHIVES = (".npz", ".npy")


def synthetic_set(path):
    """The images of an archive, of all archives in a folder one after the other, or of a folder of pictures."""
    archives = sorted(file for file in path.iterdir() if file.suffix in ARCHIVES) if path.is_dir() else []
    return np.concatenate([read_images(file) for file in archives]) if archives else read_images(path)


@stage("import_checkpoint")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--size", type=click.IntRange(2), help="K, the number of training images.  [default: as in the file]")
@click.option("--check/--no-check", default=True, help="Refuse a noise prediction that does not recognise pure noise.")
@out_option
def main(path, size, check, out):
    """Turn PATH into a model or a synthetic set of this pipeline, which sample, basin, ... and neighbours then read.

    PATH: a checkpoint (.pt) of the authors' train_unet.py; a folder of diffusers' DDPMPipeline or UNet2DModel; or a
    synthetic set (.npz of `samples`, a folder of such, or of pictures). No code in any of them is run.
    """
    if path.suffix in ARCHIVES or (path.is_dir() and not any(path.glob("**/config.json"))):
        images = synthetic_set(path)
        write_arrays(
            out, {"images": images}, source=path.name, **({} if path.is_dir() else {"sha256": file_hash(path)})
        )
        click.echo(f"{out}: {len(images):,} images of {path}")
        return
    weights, record = from_diffusers(path) if path.is_dir() else from_authors(path)
    if not (size := size or record.get("size")):
        raise ValueError(f"{path}: does not say how many images it was trained on; --size does")
    model = new_model(record["network"], record["diffusion"], record["image_shape"], 0, None)
    try:
        model.network.load_state_dict(weights)
    except RuntimeError as error:
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


if __name__ == "__main__":
    main()
