"""Samples as blends of training images: weights on the simplex by non-negative least squares."""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

KINDS = ("training", "two", "three", "other")  # a training image, a blend of two or of three of them, neither
LEAST = 0.05  # weights below this do not count as a part of a blend


class Blends(NamedTuple):
    """The nearest points to n samples in the convex hull of S."""

    weights: np.ndarray  # [n, K] float64 >= 0, rows sum to 1
    residual: np.ndarray  # [n] float64, the distance of the sample to that point

    @property
    def parts(self) -> np.ndarray:
        """The number of training images whose weight is at least LEAST: [n]."""
        return (self.weights >= LEAST).sum(1)


def _rows(images: np.ndarray) -> np.ndarray:
    """Return images: [n, ...] as rows of numbers: [n, P] float64, of which there may be none."""
    return np.asarray(images, np.float64).reshape(len(images), int(np.prod(np.shape(images)[1:])))


def simplex_weights(samples: np.ndarray, memories: np.ndarray) -> Blends:
    """Return `Blends` of samples: [n, ...] from memories: [K, ...], K >= 1.

    The weights w minimise |sum_mu w_mu xi_mu - x|^2 on the simplex. With columns b_mu = xi_mu - x, non-negative least
    squares of (|B v|^2 + (1 - sum v)^2) has its minimum at a multiple of w: for v = s w it is q / (1 + q) at the best
    s, which grows with q = |B w|^2.
    """
    x, xi = _rows(samples), _rows(memories)
    weights = np.empty((len(x), len(xi)))
    unit = max(np.abs(xi).max(), 1e-300) * np.sqrt(xi.shape[1])  # makes |B v| of order one
    target = np.append(np.zeros(xi.shape[1]), 1.0)
    for row, image in enumerate(x):
        solution = nnls(np.vstack([(xi - image).T / unit, np.ones(len(xi))]), target)[0]
        weights[row] = solution / solution.sum()
    return Blends(weights, np.linalg.norm(weights @ xi - x, axis=1))


def blend_kinds(samples: np.ndarray, memories: np.ndarray, delta: float, nearest: int = 8) -> np.ndarray:
    """Return which of KINDS each sample is, as codes: [n] int8. samples: [n, ...], memories: [K, ...].

    A sample within delta of a training image is `training`. Of the others, one within delta of the segment between two
    training images is `two`, and within delta of the triangle of three is `three`. The pairs and triples are those of
    the `nearest` largest weights of `simplex_weights` and of the nearest images, which makes the search short.
    """
    x, xi = _rows(samples), _rows(memories)
    codes = np.full(len(x), KINDS.index("other"), np.int8)
    weights = simplex_weights(x, xi).weights
    for row, image in enumerate(x):
        distances = np.linalg.norm(xi - image, axis=1)
        if distances.min() <= delta:
            codes[row] = 0
            continue
        heavy = np.argsort(-weights[row], kind="stable")[:nearest]
        heavy = heavy[weights[row, heavy] > 0]
        chosen = np.union1d(heavy, np.argsort(distances, kind="stable")[: max(2, nearest // 2)])
        for code, parts in ((1, 2), (2, 3)):
            if len(chosen) >= parts and any(
                simplex_weights(image[None], xi[list(part)]).residual[0] <= delta
                for part in combinations(chosen, parts)
            ):
                codes[row] = code
                break
    return codes
