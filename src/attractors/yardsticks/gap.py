"""The gap between denoising errors at training images and at held-out images (Kadkhodaie et al. 2023).

The exact denoiser of S_K has the largest gap. The linear denoiser, which is exact for a Gaussian with the mean and
covariance of S_K (Wang and Vastola 2024; Vastola 2025), has a gap because its covariance is estimated from K images.
"""

import math

import numpy as np


def relative_gap(training: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Return (held-out error - error on S_K) / held-out error by noise level: [L]. It is 0 without a gap and at most 1.

    training: [L, n] and held_out: [L, m] are errors of single images; their means are compared.
    """
    seen, unseen = training.mean(1), held_out.mean(1)
    return np.divide(unseen - seen, unseen, out=np.zeros(len(seen)), where=unseen > 0)


def memorized_gap(training: np.ndarray, held_out: np.ndarray, exact: np.ndarray, exact_held_out: np.ndarray) -> float:
    """Return the mean of `relative_gap` over noise levels, in units of that of the exact denoiser of S_K.

    The result is 1 for a model that denoises like the exact denoiser, and 0 for one that treats training images like
    all others. training and held_out are the model's errors, and exact and exact_held_out those of the exact denoiser,
    as in `relative_gap`. The result is nan where the exact denoiser has no gap.
    """
    whole = relative_gap(exact, exact_held_out).mean()
    return float(relative_gap(training, held_out).mean() / whole) if whole > 0 else math.nan
