"""When along the diffusion a sample chooses its class, and when it chooses its memory (Biroli et al. 2024).

Times are positions along alpha_bar of the variance-preserving process of `denoisers.diffusion`: 0-based, and fractional
where an event falls between two steps. Biroli et al. write the process as an Ornstein-Uhlenbeck process, whose exp(-2
t) is alpha_bar.
"""

import numpy as np
from scipy.special import logsumexp


def crossing_time(values: np.ndarray, level: float = 0.0) -> float:
    """Return the position at which values: [T] first cross `level` downwards, interpolated linearly, in [0, T - 1].

    The result is 0 where the first value is already below the level, and T - 1 where no value falls to it.
    """
    below = np.flatnonzero(np.asarray(values) <= level)
    if not len(below):
        return float(len(values) - 1)
    at = int(below[0])
    return float(at) if at == 0 else at - 1 + float((values[at - 1] - level) / (values[at - 1] - values[at]))


def largest_variance(images: np.ndarray) -> float:
    """Return the largest eigenvalue of the covariance of images: [K, ...], divided by K; 0 for a single image."""
    flat = np.asarray(images, np.float64).reshape(len(images), -1)
    flat = flat - flat.mean(0)
    return float(np.linalg.norm(flat, 2) ** 2 / len(flat))


def speciation_time(variance: float, alpha_bar: np.ndarray) -> float:
    """Return the speciation time, where alpha_bar(t) Lambda = 1 (Biroli et al. 2024: t_S = ln(Lambda) / 2), in steps.

    variance is Lambda, the largest eigenvalue of the covariance of the data. alpha_bar: [T], descending. At times below
    it a sample has chosen its class; at times above it the noise hides the direction of largest variance.
    """
    return crossing_time(np.log(alpha_bar * max(variance, np.finfo(float).tiny)))


def posterior(
    squares: np.ndarray, projections: np.ndarray, origin: np.ndarray, alpha_bar: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (entropy, log-odds) of the exact posterior over the K memories at noised training images: two [T, n].

    The state is x_t = sqrt(alpha_bar) xi_o + sigma z, with one z for each image at all times. squares: [n, K] are
    |xi_o - xi|^2, projections: [n, K] are z . (xi_o - xi), origin: [n] has the number o of each image's memory, and
    alpha_bar: [T] in (0, 1). The posterior is w ~ exp(-|x_t - sqrt(alpha_bar) xi|^2 / (2 sigma^2)). The entropy is in
    nats, from 0 to ln K; exp(entropy) is the effective number of memories. In the notation of Biroli et al. 2024 its
    mean is -N times the excess entropy density, which vanishes at the collapse. The log-odds are ln w_o - ln(1 - w_o).
    """
    entropy, odds = np.empty((2, len(alpha_bar), len(squares)))
    rows = np.arange(len(squares))
    for t, a in enumerate(alpha_bar):
        signal = np.sqrt(a / (1 - a))
        logs = -(signal**2 * squares / 2 + signal * projections)  # [n, K], 0 at the origin
        at_origin = logs[rows, origin]
        logs[rows, origin] = -np.inf
        others = logsumexp(logs, axis=1)
        odds[t] = at_origin - others
        logs[rows, origin] = at_origin
        logs -= np.logaddexp(at_origin, others)[:, None]
        entropy[t] = -(np.exp(logs) * logs).sum(1)
    return entropy, odds


def collapse_time(odds: np.ndarray) -> float:
    """Return the collapse time as a position along odds: [T, n], from `posterior` at ascending times.

    Biroli et al. 2024 place the collapse where an image's own term in p_t equals the sum of all other terms, Z_1 =
    Z_{2...n}, as in the random energy model. That is where the mean log-odds vanish. With two memories they never
    vanish, because an image keeps at least half of the weight on average; the result is then the last position.
    """
    return crossing_time(odds.mean(1))
