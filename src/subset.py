"""Store a dataset once, in the order whose first K images are the training set S_K."""

import click

from attractors import datasets
from attractors.commands import out_option, seed_option, stage
from attractors.records import array_hash, write_arrays
from attractors.subsets import nested_order


@stage("subset")
@click.argument("dataset")
@seed_option
@out_option
def main(dataset, seed, out):
    """Order the images of DATASET by a random permutation: nested subsets of every size are its prefixes."""
    images, maximum, source = datasets.load(dataset)
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
