"""How good the samples of photographs are, and whether their types hang on the distance: beside Fig. 4A in colour.

A network that has not learned its training set draws no copies, and so "generalizes" by Eqs. 9-11. These numbers tell
such samples from pictures: real images that no network was trained on have 1, 1, 1, 1 and 0.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from attractors.distances.contrast import sharpness
from attractors.distances.detection import TYPES, classify, fractions
from attractors.distances.neighbours import nearest
from attractors.distances.thresholds import copy_bound

OCTAVES = 3  # the upper octaves of spatial frequency: for 32 pixels 2 to 4, 4 to 8, and 8 to 16 periods an image


def octave_power(images: np.ndarray) -> np.ndarray:
    """Return the mean power of each image in its upper octaves of spatial frequency: [n, OCTAVES], the lowest first.

    images: [n, C, H, W]. Frequencies are periods an image along its shorter side, up to half of its pixels.
    """
    height, width = images.shape[2:]
    periods = min(height, width) * np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    power = np.square(np.abs(np.fft.fft2(images.astype(np.float64)))).mean(1)
    edges = min(height, width) / 2 ** np.arange(OCTAVES + 1, 0, -1)
    return np.stack([power[:, (low < periods) & (periods <= high)].mean(1) for low, high in pairwise(edges)], 1)


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased squared maximum mean discrepancy of features x: [n, D], y: [m, D], by the kernel
    (1 + x.y / s)^3 of Binkowski et al. 2018, where s is the mean square length of y, so that it is 8 on the diagonal.

    Two sets of one distribution have 0 on average, and may have less.
    """
    x, y = (np.asarray(part, np.float64) for part in (x, y))
    scale = np.square(y).sum(1).mean()

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (1 + a @ b.T / scale) ** 3

    def within(a: np.ndarray) -> float:
        values = kernel(a, a)
        return (values.sum() - np.trace(values)) / (len(a) * (len(a) - 1))

    return float(within(x) + within(y) - 2 * kernel(x, y).mean())


def quality(images: np.ndarray, features: np.ndarray, real: np.ndarray, real_features: np.ndarray) -> dict[str, float]:
    """Return the quality of images: [n, C, H, W], n > 1, beside real images that no network was trained on.

    `sharpness` and `power_1` to `power_3` (by octave) are medians, in units of those of the real images.
    `kernel_distance` is that of features: [n, D] of a network, such as the embedding of LPIPS.
    """
    power = np.median(octave_power(images), 0) / np.median(octave_power(real), 0)
    return {
        "sharpness": float(np.median(sharpness(images)) / np.median(sharpness(real))),
        **{f"power_{octave}": float(value) for octave, value in enumerate(power, 1)},
        "kernel_distance": kernel_distance(features, real_features),
    }


def gaussian(s: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Return `count` draws from the Gaussian with the mean and the covariance of s: [K, ...], as the optimal linear
    denoiser of S samples: [count, ...] float32."""
    mean, weights = s.mean(0), random.standard_normal((count, len(s))) / np.sqrt(len(s))
    return (mean + np.tensordot(weights, s - mean, 1)).astype(np.float32)


def types_by(
    samples: np.ndarray, training: np.ndarray, limits: dict[str, tuple[float, float]], squared: bool
) -> Iterator[dict[str, Any]]:
    """Yield the fractions of the three types (Eqs. 9-11) by a distance, for each pair of thresholds, by name.

    samples: [n, D], training: [K, D], features between which the distance is Euclidean, or its square. limits: pairs
    (delta_m, delta_s) by name. `auto` comes first: a quarter of the distance between neighbouring training images.
    """
    to_training, within, spacing = (
        nearest(queries, references, 1, queries is references, squared=squared)[0][:, 0].numpy()
        for queries, references in ((samples, training), (samples, samples), (training, training))
    )
    bound = copy_bound(spacing)
    for name, (delta_m, delta_s) in {"auto": (bound, bound), **limits}.items():
        shares = fractions(classify(to_training, within, delta_m, delta_s))
        yield {"thresholds": name, "delta_m": delta_m, "delta_s": delta_s} | dict(zip(TYPES, shares, strict=True))
