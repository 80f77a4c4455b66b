"""Single numbers that summarise a basin or a spectrum: functions of measurements alone, without a model and torch."""

import math

import numpy as np


def log_volume(radius: np.ndarray | float, dimensions: int) -> np.ndarray:
    """Return the logarithm of the volume of a ball of radius R in N = `dimensions`, Eqs. 12 and 34: float64, shaped
    like radius.

    ln V = N/2 ln pi - ln Gamma(N/2 + 1) + N ln R. It is -inf where the radius is 0.
    """
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(radius, np.float64))
    return dimensions / 2 * math.log(math.pi) - math.lgamma(dimensions / 2 + 1) + dimensions * logs


def effective_rank(values: np.ndarray) -> np.ndarray:
    """Return exp(entropy) of singular values scaled to sum 1 (Roy and Vetterli): [n] in [1, N], from values: [n, N] >=
    0.
    """
    shares = values / values.sum(1, keepdims=True)
    return np.exp(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(1))


def spectral_gap(values: np.ndarray, factor: float = 2.0, skip: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return (dimension: [n] int64, gap: [n]) from singular values: [n, N], descending.

    gap is the largest ratio s_i / s_{i+1} of neighbours after the `skip` largest values. The paper leaves these out as
    well, because a ridge or the mean score sets a few values far above the rest. dimension is N - i, the number of
    values below the gap: the directions in which the score pulls weakly, which span the manifold (D.1). It is 0 where
    no ratio reaches `factor`, as around an isolated memory.
    """
    kept = values[:, min(skip, values.shape[1] - 2) :]
    drops = -np.diff(np.log(np.maximum(kept, np.finfo(values.dtype).tiny)), axis=1)
    at, gap = drops.argmax(1), drops.max(1)
    return np.where(gap >= math.log(factor), kept.shape[1] - 1 - at, 0), np.exp(gap)


def degrees_of_freedom(trace: np.ndarray, sigma: float, dimensions: int) -> np.ndarray:
    """Return N + sigma_t^2 tr J: [n], from the trace: [n] of the score's Jacobian; not in the paper.

    It is the trace of d E[sqrt(alpha_bar) x_0 | x_t] / d x_t, the number of directions in which the model keeps its
    input: 0 at an isolated memory, and d on a flat manifold of d dimensions that is wide compared with sigma_t.
    """
    return dimensions + sigma**2 * trace
