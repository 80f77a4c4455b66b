"""The paper's statements as rows of a table: an effect, its intervals over replicates, and a verdict for each.

An effect is positive where the statement is true. Replicates are the units: each gives one value of an effect, from
the sizes that all replicates have, and the interval is Student's with R - 1 degrees of freedom. Training sets are
nested and streams of random numbers do not depend on K, so the errors of one replicate at different K may be alike,
and pairing by replicate allows for that. What is compared is fixed beforehand, or chosen for each replicate by the
others (the sizes of the transition), so that no maximum of noisy numbers biases an effect. docs/statistics.md has the
coverage in simulations.

`low` and `high` hold for all rows of the table together (Bonferroni), and verdicts follow from them: `holds` where the
interval lies above 0, `does not hold` where it lies below. A statement that two things are alike holds where the
interval lies within its margin, and does not hold where the interval leaves out 0 and is not within the margin. All
else `cannot be told`; with fewer than two replicates the verdict is `too few replicates`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from attractors.distances.detection import TYPES
from attractors.results.run import Run

HOLDS, FAILS, OPEN, FEW = "holds", "does not hold", "cannot be told", "too few replicates"
LEVEL = 0.05
@dataclass(frozen=True)
class Claim:
    """One statement of the paper and what a sweep says of it."""

    claim: str
    source: str  # where the paper says it
    measure: str  # what the effect is
    effect: float
    error: float  # standard error of the effect; nan: unknown
    degrees: int  # of freedom of the error: replicates less one
    margin: float = float("nan")  # within which an effect counts as none
    p: float = float("nan")  # two-sided, of no effect; from the error unless given
    interval: Callable[[float], tuple[float, float]] | None = None  # of the effect at a level, unless from the error

    def ends(self, level: float) -> tuple[float, float]:
        """Return the interval that misses the effect with probability `level`; (nan, nan) without replicates."""
        if self.interval:
            return self.interval(level)
        half = stdtrit(self.degrees, 1 - level / 2) * self.error if self.degrees else np.nan
        return self.effect - half, self.effect + half

    @property
    def p_value(self) -> float:
        """Return the probability of an effect so far from 0 where there is none."""
        if np.isfinite(self.p) or not self.degrees:
            return self.p
        with np.errstate(divide="ignore", invalid="ignore"):  # no error and no effect: p = nan
            return float(2 * stdtr(self.degrees, -abs(np.divide(self.effect, self.error))))


def over_replicates(
    claim: str, source: str, measure: str, values: np.ndarray, *, margin: float = float("nan"), sampling: float = 0.0
) -> Claim:
    """Return the claim whose effect is the mean of one value for each replicate: [R].

    sampling: the standard error of that mean that finite samples explain, below which the error is never put:
    replicates that agree perfectly still have it.
    """
    values = np.asarray(values, float)
    between = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    error = float(np.fmax(between, sampling)) if len(values) > 1 else np.nan
    return Claim(claim, source, measure, float(values.mean()), error, len(values) - 1, margin)


def verdicts(claims: list[Claim]) -> pd.DataFrame:
    """Return the table of claims: intervals of one row alone (`low_95`) and of all together (`low`), and `verdict`."""
    columns = ("claim", "source", "measure", "effect", "degrees", "margin")
    table = pd.DataFrame([{key: asdict(claim)[key] for key in columns} for claim in claims], columns=list(columns))
    several = max(1, sum(claim.degrees > 0 for claim in claims))  # rows that can get a verdict
    for names, level in ((["low", "high"], LEVEL / several), (["low_95", "high_95"], LEVEL)):
        table[names] = [claim.ends(level) for claim in claims] or np.empty((0, 2))
    table["p"] = [claim.p_value for claim in claims]
    table["p_corrected"] = np.minimum(1, several * table.p)
    alike = table.margin.notna()
    inside = alike & (table.low > -table.margin) & (table.high < table.margin)
    above, below = table.low > 0, table.high < 0
    table["verdict"] = np.select(
        [table.degrees < 1, inside | (~alike & above), below | (alike & above)], [FEW, HOLDS, FAILS], OPEN
    )
    order = ["claim", "source", "measure", "effect", "low", "high", "low_95", "high_95", "p", "degrees", "p_corrected"]
    return table[[*order, "verdict"]]


def markdown(table: pd.DataFrame) -> str:
    """Return the table of claims as a table in Markdown: statement, effect with its simultaneous interval, verdict."""
    rows = [f"| {row.claim} | {row.effect:.3g} ({row.low:.3g} to {row.high:.3g}) | {row.verdict} |"
            for row in table.itertuples()]
    return "\n".join(["| The paper says | effect (interval) | verdict |", "|---|---|---|", *rows])


def common(table: pd.DataFrame, column: str, types: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return (sizes that every replicate has with all of `types`: [m], values of a column: [R, m, types]).

    Types of which fewer than two samples were measured do not count. Where no size is common to all replicates, they
    are the sizes and values of replicate 0.
    """
    table = table[table.type.isin(types) & (table.n > 1) & np.isfinite(table[column])]
    wide = table.pivot_table(index="replicate", columns=["K", "type"], values=column)
    numbers = np.unique(table.replicate)
    for rows in (numbers, numbers[:1]):
        part = wide.reindex(rows).dropna(axis=1)
        sizes = [size for size in np.unique(table.K) if all((size, kind) in part for kind in types)]
        if sizes:
            values = [[part[size, kind].to_numpy() for kind in types] for size in sizes]
            return np.array(sizes), np.array(values).transpose(2, 0, 1)
    return np.empty(0, int), np.empty((0, 0, len(types)))


def contrast(
    table: pd.DataFrame, column: str, above: str, below: str, first: int = 0
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (for each replicate, how far type `above` lies above `below` in the mean over sizes: [R], the sizes).

    Sizes are those from `first` on that all replicates have with both types; None where there is none.
    """
    sizes, values = common(table[first <= table.K], column, (above, below))
    return ((values[..., 0] - values[..., 1]).mean(1), sizes) if len(sizes) else None


def slope(table: pd.DataFrame, column: str, kind: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (for each replicate, the slope of a column of one type per doubling of K: [R], the sizes).

    The least-squares line over the sizes that all replicates have, each with the same weight, is a summary of a curve,
    and how far the curve is from a line makes no error. None with fewer than three sizes.
    """
    sizes, values = common(table, column, (kind,))
    if len(sizes) < 3:
        return None
    x = np.log2(sizes) - np.log2(sizes).mean()
    return values[..., 0] @ x / (x @ x), sizes


def span(sizes: np.ndarray) -> str:
    """Return 'at K = 32' or 'mean over 7 sizes, K = 16 to 192'."""
    return f"at K = {sizes[0]}" if len(sizes) == 1 else f"mean over {len(sizes)} sizes, K = {sizes[0]} to {sizes[-1]}"


def replicated(run: Run, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (the sizes that all replicates of a sweep have: [m], their fractions: [R, m, 3], their counts: [R, m])."""
    table = run.replicates("fractions", name)
    models = table.groupby("K").replicate.nunique()
    sizes = models.index[models == models.max()].to_numpy()
    part = table[table.K.isin(sizes)].sort_values(["replicate", "K"])
    shape = int(models.max()), len(sizes)
    return sizes, part[list(TYPES)].to_numpy().reshape(*shape, 3), part["count"].to_numpy().reshape(shape)


def others_of(shares: np.ndarray) -> np.ndarray:
    """Return, for each replicate, the mean fractions of all others: [R, m, 3], of its own where it is alone."""
    return (shares.sum(0) - shares) / (len(shares) - 1) if len(shares) > 1 else shares


def peak_of(run: Run, name: str) -> int:
    """Return the K with the largest spurious fraction among the sizes that all replicates have."""
    sizes, shares, _ = replicated(run, name)
    return int(sizes[shares[..., 1].mean(0).argmax()])
