"""Compare two runs of a sweep: what differs, and whether by more than the noise of replicates and samples."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import chi2_contingency, f, t

from attractors.distances.detection import TYPES
from attractors.results.replicates import (
    RESAMPLES,
    chi_squared,
    counts_of,
    dispersion,
    dispersions,
    drawn,
    interval,
    moderated,
    pooled,
    quantities,
)

NAMES = {
    "spurious_peak": "peak of the spurious fraction", "spurious_peak_K": "K of that peak",
    "half_memorized_K": "K where memorized fall to 1/2",
}


def compare_quantities(first: pd.DataFrame, second: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Return the `quantities` of two tables of replicates and their difference, with 95% intervals.

    The two are drawn again independently, as `replicates.drawn` does. The column `noise` says whether the interval of
    the difference contains 0.
    """
    sides = [counts_of(table) for table in (first, second)]
    phi = dispersion([*sides[0], *sides[1]])
    measured, again = [], []
    for table, counts in zip((first, second), sides, strict=True):
        sizes = np.unique(table.K)
        measured.append(quantities(sizes, np.stack([part.sum(0) / part.sum() for part in counts])[None]))
        again.append(quantities(sizes, drawn(counts, dispersions(counts, phi), RESAMPLES, random)))
    rows = []
    for name, words in NAMES.items():
        (a,), (b,) = measured[0][name], measured[1][name]
        row = {"quantity": words, "A": a, "B": b, "change": b - a}
        for side, values in (("A", again[0]), ("B", again[1])):
            row[f"{side}_low"], row[f"{side}_high"] = interval(values[name])
        row["low"], row["high"] = interval(again[1][name] - again[0][name])
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
    """Return the fractions at each K that two tables of replicates have, with a p-value for their difference.

    It is that of a chi-squared test of the counts of all replicates, divided by the moderated dispersion phi of both
    runs at this K: an F test with the degrees of freedom of phi. Without replicates phi is 1, and the test is of
    samples alone. p is corrected for the number of sizes (Holm), and is 1 where the counts are equal. The test assumes
    that the two sets are independent: for one set under two thresholds a difference is exact, and p has no meaning.
    """
    sizes = sorted(set(first.K) & set(second.K))
    sides = [counts_of(table[table.K.isin(sizes)]) for table in (first, second)]
    phi = dispersion([*sides[0], *sides[1]])
    rows, p_values = [], []
    for size, *parts in zip(sizes, *sides, strict=True):
        totals = np.stack([part.sum(0) for part in parts])
        occupied = totals.sum(0) > 0
        free = int(occupied.sum()) - 1
        statistic = chi2_contingency(totals[:, occupied], correction=False).statistic if free else 0
        spread = pooled(*zip(*map(chi_squared, parts), strict=True))
        spread = moderated(*spread, phi)
        p_values.append(f.sf(statistic / max(free, 1) / spread.value, max(free, 1), spread.degrees or 1e9))
        a, b = totals / totals.sum(1, keepdims=True)
        rows.append(
            {"K": size} | {f"{kind}_{s}": x[i] for i, kind in enumerate(TYPES) for s, x in (("A", a), ("B", b))}
        )
    return pd.DataFrame(rows).assign(p=holm(p_values))


def compare_means(first: pd.DataFrame, second: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the means of a column with standard errors, for each K and type in both tables, and p of their difference.

    p is that of a t test, with the smaller of the two numbers of degrees of freedom (a normal test without replicates),
    corrected by Holm's method; it is NaN where a standard error is 0 or unknown.
    """
    both = first.merge(second, on=["K", "type"], suffixes=("_A", "_B"))
    table = both[["K", "type", f"{column}_A", f"{column}_B"]].copy()
    error = np.hypot(both[f"{column}_se_A"], both[f"{column}_se_B"])
    change = both[f"{column}_B"] - both[f"{column}_A"]
    known_degrees = "degrees_A" in both
    degrees = np.minimum(*(both[f"degrees_{side}"].replace(0, np.inf) for side in "AB")) if known_degrees else np.inf
    table["p"] = np.nan
    known = (error > 0).to_numpy()
    table.loc[known, "p"] = holm((2 * t.sf(np.abs(change / error), degrees))[known])
    return table
