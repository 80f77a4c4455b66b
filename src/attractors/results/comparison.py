"""Compare two runs of a sweep: what differs, and whether by more than the noise of finite samples."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import chi2_contingency, norm

from attractors.distances.detection import TYPES
from attractors.results.run import crossings

RESAMPLES = 2000


def counts_of(table: pd.DataFrame) -> np.ndarray:
    """Return the number of samples of each type from a table of fractions: [sizes, 3] int64."""
    return np.rint(table[list(TYPES)].to_numpy() * table[["count"]].to_numpy()).astype(np.int64)


def quantities(sizes: np.ndarray, shares: np.ndarray) -> dict[str, np.ndarray]:
    """Return the main quantities of n runs, {name: [n]}: the spurious peak, its K, and the K of the half-crossing.

    sizes: [m] are the K, and shares: [n, m, 3] the fractions of the types.
    """
    memorized, spurious = shares[..., 0], shares[..., 1]
    return {
        "peak of the spurious fraction": spurious.max(1),
        "K of that peak": sizes[spurious.argmax(1)].astype(float),
        "K where memorized fall to 1/2": crossings(sizes, memorized),
    }


def resampled(counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the shares of as many samples drawn again, K by K, from a multinomial: [RESAMPLES, sizes, 3].

    counts: [sizes, 3]. random: a numpy generator.
    """
    totals = counts.sum(1, keepdims=True)
    return (
        np.stack([random.multinomial(n, c / n, RESAMPLES) for c, (n,) in zip(counts, totals, strict=True)], 1) / totals
    )


def interval(values: np.ndarray) -> np.ndarray:
    """Return the central 95% interval of the finite ones among values: [n], as (low, high).

    It is (nan, nan) where more than one value in twenty is not finite.
    """
    present = values[np.isfinite(values)]
    return np.quantile(present, [0.025, 0.975]) if len(present) >= 0.95 * len(values) else np.full(2, np.nan)


def compare_quantities(first: pd.DataFrame, second: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Return the `quantities` of two tables of fractions and their difference, with 95% bootstrap intervals.

    The two tables are resampled independently. The column `noise` says whether the interval of the difference contains
    0.
    """
    found, drawn = [], []
    for table in (first, second):
        sizes, counts = table.K.to_numpy(), counts_of(table)
        found.append(quantities(sizes, (counts / counts.sum(1, keepdims=True))[None]))
        drawn.append(quantities(sizes, resampled(counts, random)))
    rows = []
    for name in found[0]:
        (a,), (b,) = found[0][name], found[1][name]
        row = {"quantity": name, "A": a, "B": b, "change": b - a}
        for side, values in (("A", drawn[0]), ("B", drawn[1])):
            row[f"{side}_low"], row[f"{side}_high"] = interval(values[name])
        row["low"], row["high"] = interval(drawn[1][name] - drawn[0][name])
        rows.append(row | {"noise": bool(row["low"] <= 0 <= row["high"]) if np.isfinite(row["low"]) else None})
    return pd.DataFrame(rows)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return the p-values of several tests: [n], corrected by Holm's method for their number."""
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def compare_fractions(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return the fractions at each K that both tables have, with the p-value of a chi-squared test of the three counts.

    p is corrected for the number of sizes (Holm), and is 1 where the counts are equal. The test assumes that the two
    synthetic sets are independent. For one set under two thresholds a difference is exact, and p has no meaning.
    """
    both = first.merge(second, on="K", suffixes=("_A", "_B"))
    sides = [first[first.K.isin(both.K)], second[second.K.isin(both.K)]]
    rows = []
    for a, b in zip(*map(counts_of, sides), strict=True):
        occupied = (a + b) > 0
        rows.append(chi2_contingency([a[occupied], b[occupied]]).pvalue if occupied.sum() > 1 else 1.0)
    table = both[["K", *(f"{kind}_{side}" for kind in TYPES for side in "AB")]].copy()
    table["p"] = holm(rows)
    return table


def compare_means(first: pd.DataFrame, second: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the means of a column with standard errors, for each K and type in both tables, and p of their difference.

    p is that of a normal test, corrected by Holm's method; it is NaN where a standard error is 0 or unknown.
    """
    both = first.merge(second, on=["K", "type"], suffixes=("_A", "_B"))
    table = both[["K", "type", f"{column}_A", f"{column}_B"]].copy()
    error = np.hypot(both[f"{column}_se_A"], both[f"{column}_se_B"])
    change = both[f"{column}_B"] - both[f"{column}_A"]
    table["p"] = np.nan
    known = (error > 0).to_numpy()
    table.loc[known, "p"] = holm(2 * norm.sf(np.abs(change[known] / error[known])))
    return table
