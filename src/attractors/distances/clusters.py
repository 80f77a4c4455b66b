"""Groups of samples that repeat each other, and how far from the training images they lie."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist, pdist, squareform

from attractors.distances.contrast import contrast
from attractors.distances.detection import TYPES

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
    clusters: list[np.ndarray], pairs: np.ndarray, images: np.ndarray, to_training: np.ndarray, training: np.ndarray,
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
    import torch  # not needed for Euclidean distances

    from attractors.distances.lpips_embedding import read_embedding

    embedding = read_embedding(path, backbone=backbone)

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


def apart(table: pd.DataFrame, count: int) -> float | None:
    """Return the share of `count` samples that are in groups farther from S than they are wide, or None of nothing."""
    members = table["size"][table.closest_to_training > table.diameter].sum()
    return round(float(members) / count, 4) if count else None


def compare_groups(
    images: np.ndarray, codes: np.ndarray, to_training: np.ndarray, within: np.ndarray, training: np.ndarray,
    delta_s: float, limit: int, distances: Distances,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return (numbers on the groups of spurious samples beside what chance gives, the table of these groups).

    images: [N', C, H, W], the samples of one model. codes: [N'] into TYPES. to_training, within: [N'] distances.
    training: S, [K, C, H, W]. limit: at most so many spurious samples are clustered, those that repeat each other most
    closely. What chance gives is measured by generalized samples: as many of them, though at most half, those that
    repeat each other most closely, are clustered by the distance at which they do.
    """
    spurious, generalized = (np.flatnonzero(codes == TYPES.index(kind)) for kind in ("spurious", "generalized"))

    def table_of(members: np.ndarray, diameter: float) -> pd.DataFrame:
        pairs = all_pairs(images[members], distances)
        clusters = groups(pairs, diameter)
        return describe(clusters, pairs, images[members], to_training[members], training, distances)

    chosen = spurious[repeating(within[spurious], limit)[0]]
    table = table_of(chosen, delta_s)
    nearest, diameter = repeating(within[generalized], min(len(chosen), len(generalized) // 2))
    chance = table_of(generalized[nearest], diameter)
    looks = {
        kind: {key: round(value, 4) for key, value in contrast(images[some], training).items()}
        for code, kind in enumerate(TYPES)
        if len(some := np.flatnonzero(codes == code)[:limit])
    }
    return {
        "spurious": len(spurious), "clusters": len(table),
        "samples_in_clusters": int(table["size"].sum()), "share": apart(table, len(chosen)),
        "clusters_farther_from_training_than_wide": int((table.closest_to_training > table.diameter).sum()),
        "generalized": len(nearest), "generalized_diameter": round(diameter, 4),
        "generalized_in_clusters": int(chance["size"].sum()), "generalized_share": apart(chance, len(nearest)),
        "looks": looks,
    }, table
