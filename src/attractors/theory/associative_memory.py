"""The Dense Associative Memory of a finite training set and of a whole circle: Eqs. 5, 6, 7, 8/15, 17 and 18.

All functions compute in numpy float64. x: [B, N]; memories: [K, N]; beta > 0 is the inverse temperature. The energy
E^DM of Eq. 5 is the energy E^AM of Eq. 6 at beta = 1 / (2 sigma^2 t), so every function takes beta, and
`inverse_temperature` computes it from t. p(x) ~ exp(-beta E(x)) (Eq. 4), hence grad log p = -beta grad E. The paper
drops this beta twice: where it equates the score with -grad E (below Eq. 2), and in Eqs. 17 and 18.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from scipy.optimize import brentq
from scipy.spatial.distance import cdist
from scipy.special import ive, logsumexp, softmax

Field = Callable[[np.ndarray], np.ndarray]
Real = TypeVar("Real", float, np.ndarray)

RETRIEVALS, NEWTON_STEPS = 100, 50


def inverse_temperature(t: float, sigma: float = 1.0) -> float:
    """Return beta = 1 / (2 sigma^2 t), at which Eq. 6 equals Eq. 5.

    t > 0 is continuous time. Raises ValueError unless t and sigma are both positive.
    """
    if not t > 0 or not sigma > 0:
        raise ValueError(f"t = {t} and sigma = {sigma}; both must be positive")
    return 1 / (2 * sigma**2 * t)


def energy(x: np.ndarray, memories: np.ndarray, beta: float) -> np.ndarray:
    """Return the energy E^AM of Eq. 6 at each row of x: [B]. At beta = 1 / (2 sigma^2 t) it is E^DM of Eq. 5."""
    return -logsumexp(-beta * cdist(x, memories, "sqeuclidean"), axis=1) / beta


def log_density(x: np.ndarray, memories: np.ndarray, beta: float) -> np.ndarray:
    """Return log p(x, t) of Eq. 4 at beta = 1 / (2 sigma^2 t), with the constants that Eq. 5 leaves out: [B]."""
    (K, N) = memories.shape
    return -beta * energy(x, memories, beta) - np.log(K) + N / 2 * np.log(beta / np.pi)


def retrieved(x: np.ndarray, memories: np.ndarray, beta: float) -> np.ndarray:
    """Return the mean of the memories under the weights softmax(-beta |x - xi|^2): [B, N]. It equals E[x_0 | x_t].

    The step x <- retrieved(x) is a gradient step of size 1/2 on Eq. 6 and never raises the energy.
    """
    return softmax(-beta * cdist(x, memories, "sqeuclidean"), axis=1) @ memories


def gradient(x: np.ndarray, memories: np.ndarray, beta: float) -> np.ndarray:
    """Return grad E^AM, the gradient of Eq. 6: [B, N]."""
    return 2 * (x - retrieved(x, memories, beta))


def hessian(x: np.ndarray, memories: np.ndarray, beta: float) -> np.ndarray:
    """Return the second derivatives of E^AM, Eq. 6: [B, N, N].

    They are 2 I - 4 beta Cov, where Cov is the covariance of the memories under the softmax of `retrieved`. A minimum
    needs every eigenvalue of Cov below 1 / (2 beta). At the midpoint of two memories that means
    beta |xi^1 - xi^2|^2 < 2; for memories further apart the one spurious state of Eq. 7 splits into two minima.
    """
    weights = softmax(-beta * cdist(x, memories, "sqeuclidean"), axis=1)
    products = (memories[:, :, None] * memories[:, None, :]).reshape(len(memories), -1)  # [K, N^2]
    mean = weights @ memories
    covariance = (weights @ products).reshape(-1, *2 * memories.shape[1:]) - mean[:, :, None] * mean[:, None, :]
    return 2 * np.eye(x.shape[1]) - 4 * beta * covariance


def score(x: np.ndarray, memories: np.ndarray, beta: float) -> np.ndarray:
    """Return the score grad log p of Eq. 4, which is -beta grad E^AM: [B, N]."""
    return -beta * gradient(x, memories, beta)


def circle_energy(R: Real, beta: float) -> Real:
    """Return E^AM of infinitely many memories on the unit circle, Eqs. 8 and 15, at distance R >= 0 from its centre.

    It is computed as (R - 1)^2 - log(exp(-2 beta R) I_0(2 beta R)) / beta, because the scaled Bessel function never
    overflows.
    """
    return (R - 1) ** 2 - np.log(ive(0, 2 * beta * R)) / beta


def circle_gradient(R: Real, beta: float) -> Real:
    """Return dE^AM/dR of the circle at distance R > 0, Eq. 17. It is the derivative of -log p divided by beta."""
    return 2 * (R - ive(1, 2 * beta * R) / ive(0, 2 * beta * R))


def circle_score(x: np.ndarray, beta: float) -> np.ndarray:
    """Return grad log p for infinitely many memories on the unit circle, Eq. 18: [B, 2].

    Eq. 18 as printed lacks a factor beta: p ~ exp(-beta E) (Eq. 14), not exp(-E). At the centre, where Eq. 18 reads
    0/0, the score is zero.
    """
    R = np.linalg.norm(x, axis=1, keepdims=True)
    return -beta * circle_gradient(R, beta) * np.divide(x, R, out=np.zeros_like(x), where=R > 0)


def ripple(energies: np.ndarray, beta: float) -> float:
    """Return the range of beta E over energies: [n] along a valley, a measure of how far the valley is from flat.

    beta E is -log p up to a constant, so the noise easily crosses barriers below 1 and rarely crosses higher ones.
    """
    return float(beta * np.ptp(energies))


def circle_radius(beta: float) -> float:
    """Return the radius R at which the energy of the circle, Eq. 15, is least.

    It is 0 while beta <= 1, where the centre of the circle is the only minimum.
    """
    nearby = 1e-6
    return brentq(circle_gradient, nearby, 1, args=(beta,)) if circle_gradient(nearby, beta) < 0 else 0.0


def merging_probability(K: int, beta: float) -> float:
    """Return the probability that two neighbours among K random points of the unit circle share one minimum.

    Two memories merge where beta |xi^1 - xi^2|^2 <= 2 (see `hessian`), which is an angle of 2 arcsin(1 / sqrt(2 beta))
    on the circle. The result is exact for K = 2; for larger K the effect of the other memories is neglected.
    """
    angle = 2 * np.arcsin(min(1.0, (2 * beta) ** -0.5))
    return 1 - max(0.0, 1 - K * angle / (2 * np.pi)) ** (K - 1)


def local_minima(
    start: np.ndarray, gradient: Field, hessian: Field, reach: float, tolerance: float = 1e-8
) -> tuple[np.ndarray, np.ndarray]:
    """Find the minima of an energy in which descent from start: [B, N] ends.

    gradient and hessian map x: [B, N] to [B, N] and [B, N, N]. reach is the scale below which the energy has no
    structure, sigma sqrt(t): no Newton step is longer than a fifth of it, and two minima nearer to each other than a
    hundredth of it count as one. Returns (minima: [M, N], index: [B]), where index is the minimum that each start
    reached, or -1 where |gradient| is not below `tolerance` or the point is not a minimum. RETRIEVALS gradient steps of
    size 1/2 (see `retrieved`) decide the basin. Newton steps along |Hessian|^-1, which point downhill, then refine the
    last digits.
    """
    x = np.array(start, dtype=float)
    for _ in range(RETRIEVALS):
        x -= gradient(x) / 2
    active = np.arange(len(x))  # the starts that have not arrived
    for _ in range(NEWTON_STEPS):
        slope, (values, vectors) = gradient(x[active]), np.linalg.eigh(hessian(x[active]))
        on = (np.linalg.norm(slope, axis=1) >= tolerance) | (values[:, 0] <= 0)
        active, slope, values, vectors = active[on], slope[on], values[on], vectors[on]
        if not len(active):
            break
        move = np.einsum("bij,bj,bkj,bk->bi", vectors, 1 / np.maximum(np.abs(values), 1e-6), vectors, slope)
        length = np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 1e-300)
        x[active] -= move * np.minimum(1, reach / 5 / length)
    done = np.ones(len(x), bool)
    done[active] = False
    minima: list[np.ndarray] = []
    index = np.full(len(x), -1)
    for i in np.flatnonzero(done):
        if index[i] < 0:
            index[done & (np.linalg.norm(x - x[i], axis=1) < reach / 100)] = len(minima)
            minima.append(x[i])
    return np.array(minima).reshape(-1, x.shape[1]), index


def attractors(
    memories: np.ndarray, gradient: Field, hessian: Field, reach: float, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the minima of an energy over memories: [K, N], and count the memories that descend into each (Eq. 7).

    Descent starts at every memory and at `start`: [B, N]; the other arguments are those of `local_minima`.
    Returns (minima: [M, N], shared: [M]), where shared is the number of memories that descend into each minimum. A
    minimum with exactly one memory is that memory, displaced by the tails of the others. A minimum with none or several
    is spurious, as in Eq. 7: it belongs to no single training point.
    """
    minima, index = local_minima(np.concatenate([memories, start]), gradient, hessian, reach)
    arrived = index[: len(memories)]
    return minima, np.bincount(arrived[arrived >= 0], minlength=len(minima))


def exact_attractors(memories: np.ndarray, beta: float, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `attractors` of the exact energy E^AM, Eq. 6, for memories: [K, N] and starts: [B, N]."""
    return attractors(
        memories, lambda x: gradient(x, memories, beta), lambda x: hessian(x, memories, beta), (2 * beta) ** -0.5, start
    )
