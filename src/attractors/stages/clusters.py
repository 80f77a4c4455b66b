"""Test whether spurious states are real: groups of spurious samples that repeat each other, far from S."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist, pdist, squareform

from attractors.arrays import array_hash, read_record
from attractors.cli.stage import out_option, stage
from attractors.data.images import read_images
from attractors.distances.contrast import contrast
from attractors.distances.detection import DISTANCES, TYPES
from attractors.results.run import Run
from attractors.tables import write_json

Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of images [n, C, H, W] and [m, C, H, W]: [n, m]


def groups(pairs: np.ndarray, diameter: float, smallest: int = 3) -> list[np.ndarray]:
    """Clusters of at least `smallest` samples whose members all lie within `diameter` of each other.

    pairs: [n (n - 1) / 2] distances of n samples in the order of scipy's pdist, or their squares throughout (LPIPS is
    one): complete linkage depends on their order alone. Returns the positions of each cluster's members, ascending.
    """
    if not len(pairs):
        return []
    labels = fcluster(linkage(pairs, "complete"), diameter, "distance")
    return [np.flatnonzero(labels == label) for label in np.flatnonzero(np.bincount(labels) >= smallest)]


def describe(
    clusters: list[np.ndarray],
    pairs: np.ndarray,
    images: np.ndarray,
    to_training: np.ndarray,
    training: np.ndarray,
    distances: Distances,
) -> pd.DataFrame:
    """Return one row for each cluster, the largest first: its size, its diameter, and how far from S it lies.

    clusters, pairs: of and as in `groups`. images: the n samples, [n, C, H, W]. to_training: [n] distance of each to
    its nearest training image. `centre_to_training` is the least distance from the mean image of a cluster to a
    training image ([K, C, H, W]), `closest_to_training` that from any of its members, and `diameter` that of the two
    members which are farthest apart, all by `distances`.
    """
    square = squareform(pairs)
    centres = np.stack([images[members].mean(0) for members in clusters]) if clusters else images[:0]
    table = pd.DataFrame({
        "size": [len(members) for members in clusters],
        "diameter": [square[np.ix_(members, members)].max() for members in clusters],
        "centre_to_training": distances(centres, training).min(1) if clusters else [],
        "closest_to_training": [to_training[members].min() for members in clusters],
    })
    return table.sort_values(["size", "diameter"], ascending=[False, True], ignore_index=True)


def euclidean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances between images in pixels: [n, m] float64. x: [n, C, H, W]. y: [m, C, H, W]."""
    return cdist(x.reshape(len(x), -1), y.reshape(len(y), -1))


def perceptual(path: str | Path, backbone: str) -> Distances:
    """The function for LPIPS of every pair of images, by the weights of `backbone` (alex or vgg) in the file `path`.

    Raises ValueError naming the file for weights of another backbone.
    """
    import torch  # here: Euclidean distances do without it

    from attractors.distances.lpips_embedding import read_embedding

    embedding = read_embedding(path)
    if embedding.backbone != backbone:
        raise ValueError(f"{path}: weights of {embedding.backbone}; these distances need those of {backbone}")

    def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """LPIPS: [n, m] float64. x: [n, C, H, W] in [-1, 1]. y: [m, C, H, W]."""
        first, second = (torch.cat(list(embedding.batches(images))).double() for images in (x, y))
        return torch.cdist(first, second).square().numpy()  # in float64 the matrix product behind it cancels harmlessly

    return distances


def all_pairs(images: np.ndarray, distances: Distances) -> np.ndarray:
    """Return the distances of all pairs of images: [n (n - 1) / 2], in the order of scipy's pdist.

    images: [n, C, H, W].
    """
    if len(images) < 2:
        return np.empty(0)
    if distances is euclidean:
        return pdist(images.reshape(len(images), -1))
    return squareform(distances(images, images), checks=False)


def repeating(within: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Return (the `count` samples that repeat each other most closely, ascending; the largest of their distances).

    within: [n], the distance of each sample to its nearest other one. Fewer are returned where there are fewer.
    """
    chosen = np.argsort(within, kind="stable")[:count]
    return np.sort(chosen), float(within[chosen].max()) if len(chosen) else 0.0


def training_images(folder: Path, dataset: str, replicate: int, size: int, expected: str | None) -> np.ndarray:
    """Return S of one replicate from the orders of a dataset, DATASET-R of its own or else DATASET: [K, C, H, W].

    expected: the hash of S in the file of neighbours, or None. Raises ValueError where no order has it.
    """
    paths = [folder / f"{dataset}-{replicate}.safetensors", folder / f"{dataset}.safetensors"]
    for path in (path for path in paths if path.is_file()):
        images = read_images(path, size)
        if expected in (None, array_hash(images)):
            return images
    raise ValueError(f"{folder}: no order of {dataset} begins with the training set of replicate {replicate}")


def apart(table: pd.DataFrame, count: int) -> float | None:
    """Return the share of `count` samples that are in groups farther from S than they are wide, or None of nothing."""
    members = table["size"][table.closest_to_training > table.diameter].sum()
    return round(float(members) / count, 4) if count else None


@stage("clusters")
@click.argument("name")
@click.option("--dataset", required=True, help="Name of the dataset, whose orders are in DATA/subsets.")
@click.option("--lpips", type=click.Path(dir_okay=False), help="LPIPS weights, for a sweep whose distance is LPIPS.")
@click.option("--limit", type=click.IntRange(3), default=2048, help="Spurious samples: those that repeat most closely.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), default="data",
              help="Folder of subsets, synthetic sets, neighbours and types.")
@click.option("--metrics", type=click.Path(file_okay=False, path_type=Path), default="metrics",
              help="Folder of tables.")
@out_option
def main(name: str, dataset: str, lpips: str | None, limit: int, data: Path, metrics: Path, out: str) -> None:
    """Cluster the spurious samples of sweep NAME at the K with the most of them, by the distance of the sweep.

    A spurious state is an attractor of its own if its samples are closer to each other than to any training image.
    `share` is the share of spurious samples that are in groups farther from S than they are wide. What chance gives is
    told by generalized samples of the same run: as many of them, though at most half, those that repeat each other most
    closely, are clustered by the distance at which they do. `looks` compares the first LIMIT samples of each type
    with the training images: averages of these are less sharp and nearer to their mean.
    """
    run = Run(metrics, data=data)
    size = int(run.peak(name).K)
    codes, (to_training, within), owner = run.codes(name, size), run.distances(name, size), run.replicate(name, size)
    if not len(codes) == len(within):
        raise ValueError(f"{data}: {len(codes)} types and {len(within)} distances of {name}")
    types = data / "types" / name / f"{size}.safetensors"
    delta_s = read_record(types).get("delta_s")
    rows: list[dict[str, Any]] = []
    tables = []
    for number, path in run.files("neighbours", name, size).items():
        record, own = read_record(path), owner == number
        distance = record.get("distance")
        if distance not in list(DISTANCES) or not isinstance(delta_s, float):
            raise ValueError(f"{path}, {types}: no distance of the sweep, or no delta_s, in their records")
        if (backbone := DISTANCES[distance]) and not lpips:
            raise click.BadParameter(f"needed for distances by {distance}", param_hint="--lpips")
        distances = perceptual(str(lpips), backbone) if backbone else euclidean
        images = read_images(data / "synthetic" / name / path.name)
        if len(images) != own.sum():
            raise ValueError(f"{data}: {own.sum()} distances and {len(images)} images of {name}")
        training = training_images(data / "subsets", dataset, number, size, record.get("training_sha256"))
        spurious, generalized = (
            np.flatnonzero(codes[own] == TYPES.index(kind)) for kind in ("spurious", "generalized")
        )
        chosen = spurious[repeating(within[own][spurious], limit)[0]]
        samples = images[chosen]
        pairs = all_pairs(samples, distances)
        table = describe(groups(pairs, delta_s), pairs, samples, to_training[own][chosen], training, distances)
        nearest, diameter = repeating(within[own][generalized], min(len(chosen), len(generalized) // 2))
        others = generalized[nearest]
        samples, pairs = images[others], all_pairs(images[others], distances)
        chance = describe(groups(pairs, diameter), pairs, samples, to_training[own][others], training, distances)
        looks = {
            kind: {key: round(value, 4) for key, value in contrast(images[some], training).items()}
            for code, kind in enumerate(TYPES)
            if len(some := np.flatnonzero(codes[own] == code)[:limit])
        }
        rows.append({
            "replicate": number, "spurious": len(spurious), "clusters": len(table),
            "samples_in_clusters": int(table["size"].sum()), "share": apart(table, len(chosen)),
            "clusters_farther_from_training_than_wide": int((table.closest_to_training > table.diameter).sum()),
            "generalized": len(others), "generalized_diameter": round(diameter, 4),
            "generalized_in_clusters": int(chance["size"].sum()), "generalized_share": apart(chance, len(others)),
            "looks": looks,
        })
        tables.append(table.assign(replicate=number))
    table = pd.concat(tables).sort_values(["size", "diameter"], ascending=[False, True], ignore_index=True)
    largest = table.head(40).astype({"size": float}).round(4).to_dict("records")
    summed = ("spurious", "clusters", "samples_in_clusters", "clusters_farther_from_training_than_wide")
    total = {key: sum(int(row[key] or 0) for row in rows) for key in summed}
    write_json(out, {"K": size, "delta_s": delta_s, **total, "replicates": rows, "largest": largest})
    click.echo(pd.DataFrame(rows).drop(columns="looks").to_string(index=False))
    click.echo(f"{out}: {len(table)} clusters of 3 or more among {total['spurious']} spurious samples at K={size}")


if __name__ == "__main__":
    main()
