"""The Dense Associative Memory of a finite training set and of a whole circle: Eqs. 5, 6, 7, 8/15, 17 and 18.

numpy float64. x: [B, N]; memories: [K, N]; beta > 0 is the inverse temperature. E^DM of Eq. 5 is E^AM of
Eq. 6 at beta = 1 / (2 sigma^2 t), so every function takes beta and `inverse_temperature` makes it from t.
p(x) ~ exp(-beta E(x)) (Eq. 4), hence grad log p = -beta grad E. The paper drops this beta twice: where it
equates the score with -grad E (below Eq. 2), and in Eqs. 17 and 18.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.spatial.distance import cdist
from scipy.special import ive, logsumexp, softmax

RETRIEVALS, NEWTON_STEPS = 100, 50


def inverse_temperature(t, sigma=1.0):
    """beta = 1 / (2 sigma^2 t), which makes Eq. 6 equal Eq. 5; t > 0 is continuous time. Raises ValueError."""
    if not t > 0 or not sigma > 0:
        raise ValueError(f"t = {t} and sigma = {sigma}; both must be positive")
    return 1 / (2 * sigma**2 * t)


def energy(x, memories, beta):
    """E^AM, Eq. 6: [B]. At beta = 1 / (2 sigma^2 t) it is E^DM, Eq. 5."""
    return -logsumexp(-beta * cdist(x, memories, "sqeuclidean"), axis=1) / beta


def log_density(x, memories, beta):
    """log p(x, t) of Eq. 4 at beta = 1 / (2 sigma^2 t), with the constants that Eq. 5 leaves out: [B]."""
    (K, N) = memories.shape
    return -beta * energy(x, memories, beta) - np.log(K) + N / 2 * np.log(beta / np.pi)


def retrieved(x, memories, beta):
    """The mean of the memories under softmax(-beta |x - xi|^2): [B, N]; equal to E[x_0 | x_t].

    One step x <- retrieved(x) descends Eq. 6, never raising it: it is a gradient step of 1/2.
    """
    return softmax(-beta * cdist(x, memories, "sqeuclidean"), axis=1) @ memories


def gradient(x, memories, beta):
    """grad E^AM of Eq. 6: [B, N]."""
    return 2 * (x - retrieved(x, memories, beta))


def hessian(x, memories, beta):
    """The second derivatives of E^AM of Eq. 6: [B, N, N]; 2 I - 4 beta Cov of the memories under the softmax.

    A minimum needs every eigenvalue of Cov below 1 / (2 beta): at the midpoint of two memories that is
    beta |xi^1 - xi^2|^2 < 2, and beyond it the one spurious state of Eq. 7 splits into two minima.
    """
    weights = softmax(-beta * cdist(x, memories, "sqeuclidean"), axis=1)
    products = (memories[:, :, None] * memories[:, None, :]).reshape(len(memories), -1)  # [K, N^2]
    mean = weights @ memories
    covariance = (weights @ products).reshape(-1, *2 * memories.shape[1:]) - mean[:, :, None] * mean[:, None, :]
    return 2 * np.eye(x.shape[1]) - 4 * beta * covariance


def score(x, memories, beta):
    """grad log p of Eq. 4: [B, N]; -beta grad E^AM."""
    return -beta * gradient(x, memories, beta)


def circle_energy(R, beta):
    """E^AM of infinitely many memories on the unit circle, Eqs. 8 and 15, at distance R >= 0 from its centre.

    As (R - 1)^2 - log(exp(-2 beta R) I_0(2 beta R)) / beta: the scaled Bessel function never overflows.
    """
    return (R - 1) ** 2 - np.log(ive(0, 2 * beta * R)) / beta


def circle_gradient(R, beta):
    """dE^AM/dR of the circle, Eq. 17: the gradient of E, which is that of -log p divided by beta."""
    return 2 * (R - ive(1, 2 * beta * R) / ive(0, 2 * beta * R))


def circle_score(x, beta):
    """grad log p for infinitely many memories on the unit circle, Eq. 18: [B, 2].

    Eq. 18 as printed lacks a factor beta: p ~ exp(-beta E) (Eq. 14), not exp(-E). Zero at the centre, where
    Eq. 18 reads 0/0.
    """
    R = np.linalg.norm(x, axis=1, keepdims=True)
    return -beta * circle_gradient(R, beta) * np.divide(x, R, out=np.zeros_like(x), where=R > 0)


def ripple(energies, beta):
    """How far an energy: [n] is from flat, as the range of beta E, a log-probability: 1 is what noise just crosses."""
    return float(beta * np.ptp(energies))


def circle_radius(beta):
    """The R at which Eq. 15 is least: 0 while beta <= 1, when the centre of the circle is the only minimum."""
    nearby = 1e-6
    return brentq(circle_gradient, nearby, 1, args=(beta,)) if circle_gradient(nearby, beta) < 0 else 0.0


def merging_probability(K, beta):
    """The chance that among K random points of the unit circle two neighbours are too close to be two minima.

    Two memories merge where beta |xi^1 - xi^2|^2 <= 2 (`hessian`), an angle of 2 arcsin(1 / sqrt(2 beta)) on the
    circle; the others' tails are neglected. Exact for K = 2.
    """
    angle = 2 * np.arcsin(min(1.0, (2 * beta) ** -0.5))
    return 1 - max(0.0, 1 - K * angle / (2 * np.pi)) ** (K - 1)


def local_minima(start, gradient, hessian, reach, tolerance=1e-8):
    """The minima of an energy that descent from start: [B, N] ends in.

    gradient, hessian: map [B, N] to [B, N] and [B, N, N].
    reach: the scale below which the energy has no structure, sigma sqrt(t): no Newton step exceeds a fifth of
    it, and minima nearer than a hundredth of it are one.
    Returns (minima: [M, N], index: [B], the minimum that each start reached, or -1 where |gradient| is not below
    `tolerance` or the point is no minimum). First RETRIEVALS retrieval steps (`retrieved`), which decide the
    basin; then Newton steps along |Hessian|^-1, which point downhill, for the last digits.
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
    index, minima = np.full(len(x), -1), []
    for i in np.flatnonzero(done):
        if index[i] < 0:
            index[done & (np.linalg.norm(x - x[i], axis=1) < reach / 100)] = len(minima)
            minima.append(x[i])
    return np.array(minima).reshape(-1, x.shape[1]), index


def attractors(memories, gradient, hessian, reach, start):
    """Minima of an energy over memories: [K, N], and which of them are spurious: (minima: [M, N], shared: [M]).

    Descent starts at every memory and at `start`: [B, N]. shared: how many memories descend into each minimum.
    One memory: it is that memory, displaced by the tails of the others. None, or several, as in Eq. 7: spurious,
    a minimum of no training point of its own.
    """
    minima, index = local_minima(np.concatenate([memories, start]), gradient, hessian, reach)
    arrived = index[: len(memories)]
    return minima, np.bincount(arrived[arrived >= 0], minlength=len(minima))


def exact_attractors(memories, beta, start):
    """`attractors` of E^AM, Eq. 6."""
    return attractors(
        memories, lambda x: gradient(x, memories, beta), lambda x: hessian(x, memories, beta), (2 * beta) ** -0.5, start
    )
