"""The adaptive distance of Carlini et al. 2023, by which they extract training images of CIFAR-10."""

import numpy as np

NEIGHBOURS, FACTOR = 50, 0.5  # n and alpha of Carlini et al. 2023, Section 5.1


def adaptive_distance(nearest: np.ndarray, neighbours: int = NEIGHBOURS, factor: float = FACTOR) -> np.ndarray:
    """Return d1 over alpha times the mean distance to the n nearest images of S (Carlini et al. 2023, 5.1): [n] >= 0.

    nearest: [n, k] are the Euclidean distances of each sample to its k nearest images of S, ascending. The mean is over
    the first `neighbours` of them, the nearest included; where S has fewer images, the missing distances are inf and
    are left out. A sample counts as a copy of its nearest image if the result is below 1. With n = 2 and alpha = 1/2
    this is the rule d1 / d2 < 1/3 of `ratio`. Where all n distances are 0, the result is 1 / alpha, its value for equal
    distances. Raises ValueError where there is no distance.
    """
    if nearest.ndim != 2 or not nearest.shape[1]:
        raise ValueError(f"distances of shape {nearest.shape}; expected those to the nearest images of S, [n, k]")
    part = nearest[:, :neighbours].astype(np.float64)
    finite = np.isfinite(part)
    mean = np.where(finite, part, 0).sum(1) / np.maximum(finite.sum(1), 1)
    return np.divide(part[:, 0], factor * mean, out=np.full(len(part), 1 / factor), where=mean > 0)


def is_copy(distance: np.ndarray) -> np.ndarray:
    """Return which samples are copies by the adaptive distance, namely those below 1: [n] bool. distance: [n]."""
    return distance < 1
