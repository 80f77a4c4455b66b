"""The exact nearest neighbours of every synthetic sample, in the training set S and in the synthetic set S'."""

import click
import torch

from attractors import commands
from attractors.distances import nearest
from attractors.records import array_hash, read_images, write_arrays


@commands.stage("neighbours", sweep=True)
@click.option("--synthetic", type=click.Path(dir_okay=False), required=True, help="S': a synthetic set, .npz or .npy.")
@click.option("--training", type=click.Path(dir_okay=False), required=True, help="S, or images in subset order.")
@click.option("--size", type=click.IntRange(1), help="K: S is the first K training images.  [default: all]")
@click.option("--k", type=click.IntRange(1), default=5, help="Neighbours of each sample.")
@click.option("--metric", type=click.Choice(["l2"]), default="l2", help="Distance; l2 on pixels in [-1, 1].")
@click.option("--memory", type=click.IntRange(1), default=512, help="MiB for the largest intermediate.")
@commands.device_option
@commands.out_option
def main(sweep, synthetic, training, size, k, metric, memory, device, out):
    """Find the K nearest neighbours of every image of SYNTHETIC in SIZE images of TRAINING and in SYNTHETIC itself.

    A sample is not its own neighbour, but an exact copy of it is.
    """
    device = commands.device(device)
    s, s_prime = read_images(training, size), read_images(synthetic)
    if s.shape[1:] != s_prime.shape[1:]:
        raise ValueError(f"{synthetic}: images of shape {s_prime.shape[1:]}; those of {training} are {s.shape[1:]}")
    features = [torch.from_numpy(images).to(device).flatten(1) for images in (s, s_prime)]
    arrays = {}
    for name, references in zip(("training", "synthetic"), features, strict=True):
        distances, indices = nearest(
            features[1], references, k, name == "synthetic", memory * 2**20,
            lambda blocks, name=name: commands.progress(blocks, f"neighbours in {name} set", "block"),
        )  # fmt: skip
        arrays[f"{name}_distances"], arrays[f"{name}_indices"] = distances.cpu().numpy(), indices.cpu().numpy()
    spacing, _ = nearest(features[0], features[0], 1, True, memory * 2**20)
    arrays["training_spacing"] = spacing[:, 0].cpu().numpy()
    write_arrays(
        out, arrays, metric=metric, k=k, size=len(s), count=len(s_prime),
        training_sha256=array_hash(s), synthetic_sha256=array_hash(s_prime),
    )  # fmt: skip
    click.echo(f"{out}: {k} neighbours of {len(s_prime):,} samples in {len(s):,} training images and in each other")


if __name__ == "__main__":
    main()
