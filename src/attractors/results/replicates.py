"""Intervals that count what another seed would change: how much replicates differ beyond what their samples explain.

Replicates of a run are models of the same K that differ in initialisation, order of training, noise and, where the
sweep says so, training set. Their fractions differ by more than samples drawn at random would. The dispersion phi is
the ratio of the variance between replicates to the variance that sampling explains, as in quasi-likelihood (McCullagh
and Nelder, Generalized Linear Models, 4.5). Every variance of sampling is multiplied by it. Replicates differ most in
the transition, so each K has a phi of its own; few replicates tell it poorly, so it is moderated: averaged with the phi
of all K, which counts for PRIOR degrees of freedom (Smyth 2004). A K with one replicate has the phi of all K, with
PRIOR degrees of freedom.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from attractors.distances.detection import TYPES, wilson
from attractors.results.run import crossings

RESAMPLES = 2000
PRIOR = 4  # degrees of freedom for which the dispersion of all sizes counts at each of them
LEAST = 5  # samples of a type that a replicate is expected to have, for the chi-squared statistic to be one


class Dispersion(NamedTuple):
    """How much more replicates differ than sampling alone would make them."""

    value: float  # phi, at least 1
    degrees: int  # of freedom of its estimate; 0: there are no replicates, and intervals are of sampling alone

    def quantile(self, level: float = 0.975) -> float:
        """Return the quantile of Student's distribution that belongs to phi; of the normal one without replicates."""
        return float(stdtrit(self.degrees or np.inf, level))


def counts_of(table: pd.DataFrame) -> list[np.ndarray]:
    """Return how many samples of each type each replicate has, for each K of a table of replicates: [R, 3] int64."""
    return [
        np.rint(part[list(TYPES)].to_numpy() * part[["count"]].to_numpy()).astype(np.int64)
        for _, part in table.groupby("K")
    ]


def pooled(ratios: Sequence[float], degrees: Sequence[int]) -> Dispersion:
    """Return the mean of variance ratios, weighted by their degrees of freedom; not below 1, as chance alone allows."""
    total = int(np.sum(degrees))
    return Dispersion(max(1.0, float(np.dot(ratios, degrees)) / total) if total else 1.0, total)


def moderated(ratio: float, degrees: int, phi: Dispersion) -> Dispersion:
    """Return phi of one size from its own variance ratio and the `phi` of all sizes, which counts for PRIOR degrees."""
    prior = min(PRIOR, phi.degrees)
    return pooled([ratio, phi.value], [degrees, prior]) if degrees else Dispersion(phi.value, prior)


def chi_squared(counts: np.ndarray) -> tuple[float, int]:
    """Return (Pearson's chi-squared of the replicates of one K over its degrees of freedom, these degrees).

    counts: [R, 3] samples of each type. Types of which fewer than LEAST samples are expected in some replicate are left
    out, and the statistic is of the other types among themselves: with k of them it has (R - 1) (k - 1) degrees of
    freedom. Without any it is (1, 0).
    """

    def expected(table: np.ndarray) -> np.ndarray:
        return table.sum(1, keepdims=True) * table.sum(0) / table.sum()

    table = counts[:, (expected(counts) >= LEAST).all(0)]
    if (free := (len(table) - 1) * (table.shape[1] - 1)) <= 0:
        return 1.0, 0
    mean = expected(table)
    return float((np.square(table - mean) / mean).sum()) / free, free


def dispersion(counts: Sequence[np.ndarray]) -> Dispersion:
    """Return phi of all sizes of a sweep together. counts: [R, 3] for each K."""
    return pooled(*zip(*map(chi_squared, counts), strict=True)) if counts else Dispersion(1.0, 0)


def dispersions(counts: Sequence[np.ndarray], phi: Dispersion | None = None) -> list[Dispersion]:
    """Return the moderated phi of each K. counts: [R, 3] for each K. phi: that of all sizes, if there are more."""
    phi = phi or dispersion(counts)
    return [moderated(*chi_squared(part), phi) for part in counts]


def fraction_interval(counts: np.ndarray, phi: Dispersion) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (fractions, low, high, standard error) of the types over all replicates of one K, each [3].

    counts: [R, 3]. The interval is Wilson's for as many samples as there are divided by phi, at the quantile of
    Student's distribution, and has a 95% chance to contain what infinitely many replicates would give.
    """
    total = counts.sum()
    shares = counts.sum(0) / total
    low, high = wilson(shares, total / phi.value, phi.quantile())
    return shares, low, high, np.sqrt(phi.value * shares * (1 - shares) / total)


def drawn(
    counts: Sequence[np.ndarray], phis: Sequence[Dispersion], resamples: int, random: np.random.Generator
) -> np.ndarray:
    """Return the fractions that other replicates and samples might have given: [resamples, sizes, 3].

    counts, phis: for each K, [R, 3] and its dispersion. At each K they are those of a multinomial of N / phi samples, N
    the number of samples that there are. phi itself is drawn too, as its degrees of freedom allow. random: a numpy
    generator.
    """
    parts = []
    for table, phi in zip(counts, phis, strict=True):
        scale = phi.degrees / random.chisquare(phi.degrees, resamples) if phi.degrees else np.ones(resamples)
        effective = np.maximum(np.rint(table.sum() / (phi.value * scale)), 1).astype(np.int64)
        shares = table.sum(0) / table.sum()
        parts.append(random.multinomial(effective, shares) / effective[:, None])
    return np.stack(parts, 1)


def quantities(sizes: np.ndarray, shares: np.ndarray) -> dict[str, np.ndarray]:
    """Return the main quantities of n runs, {name: [n]}: the spurious peak, its K, and the K of the half-crossing.

    sizes: [m] are the K, and shares: [n, m, 3] the fractions of the types.
    """
    memorized, spurious = shares[..., 0], shares[..., 1]
    return {
        "spurious_peak": spurious.max(1), "spurious_peak_K": sizes[spurious.argmax(1)].astype(float),
        "half_memorized_K": crossings(sizes, memorized),
    }


def interval(values: np.ndarray) -> np.ndarray:
    """Return the central 95% interval of the finite ones among values: [n], as (low, high).

    It is (nan, nan) where more than one value in twenty is not finite.
    """
    present = values[np.isfinite(values)]
    return np.quantile(present, [0.025, 0.975]) if len(present) >= 0.95 * len(values) else np.full(2, np.nan)


def peak_interval(peak: float, draws: np.ndarray) -> np.ndarray:
    """Return the 95% interval of the largest spurious fraction, as (low, high): the basic bootstrap interval.

    The largest of several noisy fractions is too large on average, and the largest of fractions drawn around them: [n]
    is so once more, by about as much. Reflecting the quantiles of the draws at the `peak` takes both away.
    """
    return np.clip(2 * peak - interval(draws)[::-1], 0, 1)
