"""Are spurious states real? Groups of spurious samples that repeat each other, against their distance to S."""

import click
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist, pdist

from attractors.arrays import read_arrays
from attractors.cli.stage import out_option, stage
from attractors.data.images import read_images
from attractors.distances.detection import TYPES, classify
from attractors.tables import read_csv, write_json


def groups(samples, training, diameter, smallest=3):
    """Clusters of at least `smallest` samples whose members all lie within `diameter` of each other.

    samples: [n, D], training: [K, D]. Complete linkage. Returns one row a cluster, largest first: its size, its
    diameter, and the distance from its centre and from its closest member to the nearest training image.
    """
    rows = []
    if len(samples) >= smallest:
        labels = fcluster(linkage(pdist(samples), "complete"), diameter, "distance")
        for label in np.flatnonzero(np.bincount(labels) >= smallest):
            members = samples[labels == label]
            centre_to_s = cdist(members.mean(0, keepdims=True), training).min()
            rows.append((len(members), pdist(members).max(), centre_to_s, cdist(members, training).min()))
    table = pd.DataFrame(rows, columns=["size", "diameter", "centre_to_training", "closest_to_training"])
    return table.sort_values(["size", "diameter"], ascending=[False, True], ignore_index=True)


@stage("clusters")
@click.argument("name")
@click.option("--subset", type=click.Path(dir_okay=False), required=True, help="Images in subset order.")
@click.option(
    "--data", type=click.Path(file_okay=False), default="data", help="Folder of synthetic sets and neighbours."
)
@click.option("--metrics", type=click.Path(file_okay=False), default="metrics", help="Folder that classify.py wrote.")
@out_option
def main(name, subset, data, metrics, out):
    """Cluster the spurious samples of sweep NAME at the K where there are most, in pixel space.

    A spurious state is an attractor of its own if its samples are closer to each other than to any training image.
    """
    fractions = read_csv(f"{metrics}/fractions/{name}.csv", "K", "spurious")
    limits = read_csv(f"{metrics}/thresholds/{name}.csv", "K", "delta_m", "delta_s")
    if not fractions.K.equals(limits.K):
        raise ValueError(f"{metrics}: fractions and thresholds of {name} are of other sizes K")
    peak = int(fractions.spurious.idxmax())
    size = int(fractions.K[peak])
    found, _ = read_arrays(f"{data}/neighbours/{name}/{size}.safetensors", "training_distances", "synthetic_distances")
    distances = found["training_distances"][:, 0], found["synthetic_distances"][:, 0]
    codes = classify(*distances, limits.delta_m[peak], limits.delta_s[peak])
    images = read_images(f"{data}/synthetic/{name}/{size}.safetensors")
    samples, training = images[codes == TYPES.index("spurious")], read_images(subset, size)
    table = groups(samples.reshape(len(samples), training[0].size), training.reshape(size, -1), limits.delta_s[peak])
    apart = table.closest_to_training > table.diameter
    largest = table.head(40).astype({"size": float}).round(4).to_dict("records")
    write_json(out, {
        "K": size, "spurious": len(samples), "clusters": len(table), "samples_in_clusters": int(table["size"].sum()),
        "clusters_farther_from_training_than_wide": int(apart.sum()), "largest": largest,
    })  # fmt: skip
    click.echo(table.to_string(float_format="%.3f"))
    click.echo(f"{out}: {len(table)} clusters of 3 or more among {len(samples)} spurious samples at K={size}")


if __name__ == "__main__":
    main()
