"""Whether two networks that were trained on disjoint images draw the same samples (Kadkhodaie et al. 2023)."""

import numpy as np


def cosines(x: np.ndarray, y: np.ndarray, centre: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the cosine similarity of pairs of images: [n] float64 in [-1, 1].

    x, y: [n, ...] images in the same order. centre: [...] is subtracted from both first; with the mean image of the
    data, two unrelated images have a cosine around 0, whatever the data have in common. An image that equals the centre
    has cosine 0 with every other.
    """
    a, b = ((np.asarray(part, np.float64) - centre).reshape(len(part), -1) for part in (x, y))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(1), norms, out=np.zeros(len(a)), where=norms > 0)


def nearest_cosines(x: np.ndarray, images: np.ndarray, centre: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the largest cosine of each of x: [n, ...] with any of images: [K, ...]: [n] float64 in [-1, 1].

    centre is subtracted as in `cosines`. Raises ValueError where there are no images.
    """
    if not len(images):
        raise ValueError("no images to compare samples with")
    a, b = ((np.asarray(part, np.float64) - centre).reshape(len(part), -1) for part in (x, images))
    lengths = np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    return np.divide(a @ b.T, lengths, out=np.zeros_like(lengths), where=lengths > 0).max(1)
