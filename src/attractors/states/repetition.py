"""How often samples repeat each other, by measures that do not depend on how many were drawn.

The spurious fraction of Eq. 10 grows with the number of samples, because a sample needs only one other within delta_s.
The chance that two samples lie within delta does not; it is the probability mass that discrete states hold, squared.
"""

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import gammaln

BLOCK = 1024  # samples whose distances to all others are in memory at a time


def repetition_chance(samples: np.ndarray, delta: float) -> tuple[float, float]:
    """Return C_2, the share of pairs of different samples that lie within delta, and its standard error.

    samples: [n, ...], n >= 2. C_2 is a U-statistic of order 2; its standard error is 2 std(h) / sqrt(n), where h_i is
    the share of the other samples within delta of sample i. For discrete states with probabilities p_i that lie further
    than delta apart, C_2 estimates the sum of p_i^2. It is nan for fewer than two samples.
    """
    n = len(samples)
    if n < 2:
        return np.nan, np.nan
    flat = np.asarray(samples, np.float64).reshape(n, -1)
    blocks = [(cdist(flat[start : start + BLOCK], flat) <= delta).sum(1) - 1 for start in range(0, n, BLOCK)]
    share = np.concatenate(blocks) / (n - 1)
    return float(share.mean()), float(2 * share.std(ddof=1) / np.sqrt(n))


def coverage(counts: np.ndarray) -> float:
    """Return Good and Turing's coverage, the probability mass of the states that were seen: 1 - f_1 / n.

    counts: [M], how many of n samples each state has; f_1 states have one. Near 1 where states are discrete and enough
    samples were drawn, and 0 where no sample repeats another.
    """
    counts = np.asarray(counts)
    return float(1 - (counts == 1).sum() / counts.sum())


def rarefaction(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return how many states m of the n samples have on average: [L], for each m of sizes: [L] in 0..n.

    counts: [M] >= 1, how many of the n samples each state has. A state with c samples is missed by m samples with the
    probability binom(n - c, m) / binom(n, m). The curve saturates for discrete states and rises in proportion to m for
    a continuum.
    """
    counts, sizes = np.asarray(counts)[:, None], np.asarray(sizes)
    n = counts.sum()
    rest, possible = n - counts, n - counts >= sizes
    log = gammaln(rest + 1) - gammaln(np.where(possible, rest - sizes, 0) + 1) - gammaln(n + 1) + gammaln(n - sizes + 1)
    return (1 - np.where(possible, np.exp(log), 0)).sum(0)
