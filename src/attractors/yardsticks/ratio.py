"""Memorized by a ratio of distances (Yoon et al. 2023), and the effective size of memorization (Gu et al. 2023)."""

import numpy as np

MEMORIZED = 1 / 3  # below this ratio: Yoon et al. 2023; Gu et al. 2023, whose code has the same number
LEVEL = 0.9  # of the effective size: 1 - epsilon with the epsilon = 0.1 of Gu et al. 2023


def distance_ratio(nearest: np.ndarray) -> np.ndarray:
    """Return d1 / d2, the distance to the nearest image of S over that to the second nearest: [n] float64 in [0, 1].

    nearest: [n, k] are the Euclidean distances of each sample to its k >= 2 nearest images of S, ascending. A sample
    whose two nearest images are both exact copies of it repeats no single image, and its ratio is 1. Where S has a
    single image, d2 is infinite and the ratio is 0. Raises ValueError for fewer than two columns.
    """
    if nearest.ndim != 2 or nearest.shape[1] < 2:
        raise ValueError(f"distances of shape {nearest.shape}; the ratio needs those to the two nearest images of S")
    first, second = nearest[:, 0].astype(np.float64), nearest[:, 1].astype(np.float64)
    return np.divide(first, second, out=np.ones_like(first), where=second > 0)


def is_memorized(ratio: np.ndarray) -> np.ndarray:
    """Return which samples count as memorized, namely those with d1 / d2 < 1/3 (Yoon et al. 2023): [n] bool.

    ratio: [n], from `distance_ratio`.
    """
    return ratio < MEMORIZED


def effective_size(sizes: np.ndarray, shares: np.ndarray, level: float = LEVEL) -> int | None:
    """Return the effective size of memorization (EMM, Gu et al. 2023): the largest K with a share of at least `level`.

    sizes: [m] are the K of a sweep. shares: [m] in [0, 1] are the shares of samples that are memorized at each K. The
    result is one of the sizes, so it is as coarse as their spacing. It is None where no size reaches the level.
    """
    reached = np.asarray(sizes)[np.asarray(shares) >= level]
    return int(reached.max()) if len(reached) else None
