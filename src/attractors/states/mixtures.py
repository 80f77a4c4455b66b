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


def _within(square: np.ndarray, delta: float) -> int:
    """Return 1 where 0 lies within delta of a segment between two of m points, 2 of a triangle of three, and else 3.

    square: [m, m], the inner products of the points. A triangle's nearest point that is not inside lies on a segment.
    """
    i, j = np.triu_indices(len(square), 1)
    length = np.maximum(square[i, i] + square[j, j] - 2 * square[i, j], 1e-300)
    w = np.clip((square[j, j] - square[i, j]) / length, 0, 1)
    if (w**2 * square[i, i] + 2 * w * (1 - w) * square[i, j] + (1 - w) ** 2 * square[j, j] <= delta**2).any():
        return 1
    triples = np.array([*combinations(range(len(square)), 3)], int).reshape(-1, 3)
    parts = square[triples[:, :, None], triples[:, None]] + 1e-12 * np.trace(square) * np.eye(3)
    w = np.linalg.solve(parts, np.ones((len(parts), 3, 1)))[..., 0]  # in proportion to the weights; |.|^2 = 1 / sum
    inside = (w > 0).all(1)
    return 2 if (1 / w[inside].sum(1) <= delta**2).any() else 3


def blend_kinds(samples: np.ndarray, memories: np.ndarray, delta: float, nearest: int = 8) -> np.ndarray:
    """Return which of KINDS each sample is, as codes: [n] int8. samples: [n, ...], memories: [K, ...].

    A sample within delta of a training image is `training`. Of the others, one within delta of the segment between two
    training images is `two`, and within delta of the triangle of three is `three`. The pairs and triples are those of
    the `nearest` largest weights of `simplex_weights` and of the nearest images, which makes the search short.
    """
    x, xi = _rows(samples), _rows(memories)
    codes = np.zeros(len(x), np.int8)
    weights = simplex_weights(x, xi).weights
    for row, image in enumerate(x):
        distances = np.linalg.norm(xi - image, axis=1)
        if distances.min() > delta:
            heavy = np.argsort(-weights[row], kind="stable")[:nearest]
            heavy = heavy[weights[row, heavy] > 0]
            chosen = xi[np.union1d(heavy, np.argsort(distances, kind="stable")[: max(2, nearest // 2)])] - image
            codes[row] = _within(chosen @ chosen.T, delta)
    return codes
