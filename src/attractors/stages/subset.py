"""Store a dataset once, in the order whose first K images are the training set S_K."""

from pathlib import Path

import click

from attractors.arrays import array_hash, write_arrays
from attractors.cli.images import range_option
from attractors.cli.progress import progress
from attractors.cli.settings import ROOT
from attractors.cli.stage import out_option, seed_of_replicate, stage
from attractors.data import datasets
from attractors.data.subsets import nested_order


def places(root: Path, dataset: str) -> list[Path]:
    """The folders of `root` in which a dataset's files may lie, that of its name first: also torchvision's own, data/.

    A temporary copy that `dvc exp run --temp` or --queue makes inside a checkout has none of the files that git does
    not know, so the checkout's own folders count too.
    """
    homes = [root]
    for parent in root.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            homes.append(Path(*parent.parts[:-3]))
    named = [home / "data" / "raw" / dataset for home in homes]
    first = next((folder for folder in named if folder.exists()), named[0])
    return [first, *(home / folder for home in homes for folder in ("data/raw", "data"))]


@stage("subset")
@click.argument("dataset")
@click.option("--source", type=click.Path(path_type=Path), help="Its files.  [default: data/raw/DATASET]")
@range_option
@seed_of_replicate
@out_option
def main(dataset: str, source: Path | None, values: str | None, seed: int, out: str) -> None:
    """Order the images of DATASET by a random permutation: nested subsets of every size are its prefixes.

    DATASET: digits, mnist, fashion_mnist, cifar10, lsun_church, or any name for images of your own: SOURCE is, or
    holds, one .npz, .npy, .pt or .zip of them (FILE:NAME is one of its arrays), or pictures. Known ones are downloaded
    where they are not on this machine.
    """
    images, maximum, source = datasets.load(
        dataset, *([source] if source else places(ROOT, dataset)),
        progress=lambda steps: progress(steps, f"read {dataset}", "image"),
        say=lambda line: click.echo(line, err=True), values=values,
    )
    order = nested_order(len(images), seed)
    images = images[order]
    write_arrays(
        out, {"images": images, "order": order}, dataset=dataset, source=source, maximum=maximum, seed=seed,
        count=len(images), shape=list(images.shape[1:]), images_sha256=array_hash(images),
        order_sha256=array_hash(order),
    )
    click.echo(f"{out}: {len(images)} images of {dataset}, {'x'.join(map(str, images.shape[1:]))}, in subset order")
