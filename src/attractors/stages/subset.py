"""Store a dataset once, in the order whose first K images are the training set S_K."""

from pathlib import Path

import click

from attractors.arrays import array_hash, write_arrays
from attractors.cli.progress import progress
from attractors.cli.settings import ROOT
from attractors.cli.stage import out_option, seed_option, stage
from attractors.data import datasets
from attractors.data.subsets import nested_order


@stage("subset")
@click.argument("dataset")
@click.option("--source", type=click.Path(exists=True, path_type=Path), help="Its files.  [default: data/raw/DATASET]")
@seed_option
@out_option
def main(dataset, source, seed, out):
    """Order the images of DATASET by a random permutation: nested subsets of every size are its prefixes.

    DATASET: digits, mnist, fashion_mnist, cifar10, lsun_church, or any name for images of your own: one .npz or
    pictures in SOURCE. Known ones are downloaded where SOURCE does not hold them.
    """
    folder = source or ROOT / "data" / "raw" / dataset
    images, maximum, source = datasets.load(dataset, folder, lambda steps: progress(steps, f"read {dataset}", "image"))
    order = nested_order(len(images), seed)
    images = images[order]
    write_arrays(
        out,
        {"images": images, "order": order},
        dataset=dataset,
        source=source,
        maximum=maximum,
        seed=seed,
        count=len(images),
        shape=list(images.shape[1:]),
        images_sha256=array_hash(images),
        order_sha256=array_hash(order),
    )
    click.echo(f"{out}: {len(images)} images of {dataset}, {'x'.join(map(str, images.shape[1:]))}, in subset order")


if __name__ == "__main__":
    main()
