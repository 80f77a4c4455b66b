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

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit
from scipy.stats import binomtest

from attractors.arrays import read_arrays
from attractors.distances.detection import TYPES
from attractors.results.run import Run

HOLDS, FAILS, OPEN, FEW = "holds", "does not hold", "cannot be told", "too few replicates"
LEVEL = 0.05
SAME_SHARE = 0.05  # a spurious fraction that changes by less than this share of itself is the same


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


def of_fractions(run: Run, name: str) -> Iterator[Claim]:
    """Yield the statements about the fractions of the three types (Fig. 4A)."""
    sizes, shares, counts = replicated(run, name)
    hits, others, each = shares * counts[..., None], others_of(shares), np.arange(len(shares))
    smooth = (hits + 1) / (counts[..., None] + 2)  # by Laplace's rule; a share of 0 or 1 has an error, too
    variance = smooth * (1 - smooth) / counts[..., None]

    def tested(claim: str, measure: str, values: np.ndarray, of_sampling: np.ndarray) -> Claim:
        error = float(np.sqrt(of_sampling.sum())) / len(values)
        return over_replicates(claim, "Fig. 4A", measure, values, sampling=error)

    yield tested(
        "Memorization falls as K grows", f"memorized at K = {sizes[0]} less memorized at K = {sizes[-1]}",
        shares[:, 0, 0] - shares[:, -1, 0], variance[:, 0, 0] + variance[:, -1, 0],
    )
    if len(sizes) > 2:
        inside = shares[:, 1:-1, 1].mean(1)
        end = np.where(others[:, 0, 1] > others[:, -1, 1], 0, len(sizes) - 1)
        yield tested(
            "The spurious fraction peaks inside the range of K",
            f"mean spurious fraction of the {len(sizes) - 2} sizes between K = {sizes[0]} and {sizes[-1]}, less that "
            "at the higher of these two, which the other replicates choose",
            inside - shares[each, end, 1], variance[:, 1:-1, 1].mean(1) / (len(sizes) - 2) + variance[each, end, 1],
        )
    falling = (others[..., 0] > 0.1) & (others[..., 0] < 0.9)
    if (falling.any(1) & ~falling.all(1)).all():
        weights = falling / falling.sum(1, keepdims=True) - ~falling / (~falling).sum(1, keepdims=True)
        yield tested(
            "Spurious states appear where memorization falls",
            f"mean spurious fraction at the sizes with .1 to .9 memorized, less that at all others of {len(sizes)}",
            (weights * shares[..., 1]).sum(1), (weights**2 * variance[..., 1]).sum(1),
        )
    yield tested(
        "Generalization takes over as K grows", f"generalized at K = {sizes[-1]} less one half",
        shares[:, -1, 2] - 0.5, variance[:, -1, 2],
    )


def of_histograms(run: Run, name: str) -> Iterator[Claim]:
    """Yield whether distances to S and within S' have two groups (Fig. 3), at the sizes where types are mixed."""
    if (limits := run.table("thresholds", name)) is None or "delta_m_valley_p_value" not in limits:
        return
    fractions = run.needed("fractions", name, "K", *TYPES)
    mixed = fractions.K[fractions.memorized.between(0.05, 0.95)]
    limits = limits[limits.K.isin(mixed)]
    for delta, words in (("delta_m", "to the training set"), ("delta_s", "within S'")):
        if total := len(limits):
            test = binomtest(int((limits[f"{delta}_valley_p_value"] < LEVEL).sum()), total, LEVEL)

            def ends(level: float, test: Any = test) -> tuple[float, float]:
                low, high = test.proportion_ci(1 - level)
                return low - LEVEL, high - LEVEL

            yield Claim(
                f"Distances {words} form two groups", "Fig. 3",
                f"share of {total} sizes whose histogram has a valley (p < {LEVEL}), less the {LEVEL} of chance",
                test.statistic - LEVEL, float("nan"), total - 1, p=test.pvalue, interval=ends,
            )


def halved(run: Run, name: str, size: int, limit: float, random: np.random.Generator) -> np.ndarray:
    """Return, for each replicate, the share of its spurious fraction that is lost in a random half of S': [R].

    A sample of the half is spurious where one of its stored neighbours within `limit` (delta_s) is in the half, too.
    Where more neighbours than are stored lie within it and none of the stored is in the half, one of the others is
    taken to be.
    """
    codes, owner, lost = run.codes(name, size), run.replicate(name, size), []
    for number, path in run.files("neighbours", name, size).items():
        arrays, _ = read_arrays(path, "synthetic_distances", "synthetic_indices")
        near, indices = arrays["synthetic_distances"] <= limit, arrays["synthetic_indices"]
        types, kept = codes[owner == number], random.random(len(indices)) < 0.5
        present = near & kept[np.clip(indices, 0, None)] & (indices >= 0)
        repeats = present.any(1) | near.all(1)
        whole = (types == TYPES.index("spurious")).mean()
        half = (repeats & (types != TYPES.index("memorized")))[kept].mean()
        lost.append(1 - half / whole if whole else 0.0)
    return np.array(lost)


def of_samples(run: Run, name: str, random: np.random.Generator) -> Iterator[Claim]:
    """Yield whether the size of S' matters at the peak (Fig. 9)."""
    limits, peak = run.table("thresholds", name), peak_of(run, name)
    if limits is not None and run.files("neighbours", name, peak):
        delta_s = float(limits.delta_s[peak == limits.K].iloc[0])
        yield over_replicates(
            "Half as many samples show the same spurious fraction", "Fig. 9",
            f"share of the spurious fraction that is lost in half of S', at K = {peak}; alike within {SAME_SHARE:g}",
            halved(run, name, peak, delta_s, random), margin=SAME_SHARE,
        )


def beyond_distance(run: Run, name: str, size: int) -> np.ndarray | None:
    """Return, for each replicate, how much larger log-volumes of memorized samples are at the same distance to S: [R].

    It is the coefficient of being memorized beside a quadratic in ln d1, in a least-squares fit to the memorized and
    spurious samples, weighted as they were drawn. None where a replicate has fewer than ten of either type.
    """
    if not run.files("basin", name, size) or (measured := run.measurements("basin", name, size)) is None:
        return None
    arrays, codes, distance = measured[0], run.codes(name, size), run.distances(name, size)[0]
    kind, near = codes[arrays["numbers"]], np.log(np.maximum(distance[arrays["numbers"]], 1e-6))
    volumes, effects = arrays["log_volume"].astype(float), []
    for number in np.unique(arrays["replicate"]):
        rows = (arrays["replicate"] == number) & (kind < 2) & np.isfinite(volumes)
        if min((kind[rows] == 0).sum(), (kind[rows] == 1).sum()) < 10:
            return None
        design = np.stack([kind[rows] == 0, np.ones(rows.sum()), near[rows], near[rows] ** 2], 1)
        root = np.sqrt(arrays["weight"][rows])
        effects.append(np.linalg.lstsq(design * root[:, None], volumes[rows] * root, rcond=None)[0][0])
    return np.array(effects)


def of_basins(run: Run, name: str) -> Iterator[Claim]:
    """Yield the statements about volumes (Fig. 4B); critical times are the same measurement and have no rows."""
    if (table := run.replicates("basin", name)) is None:
        return
    for above, below in (("memorized", "spurious"), ("spurious", "generalized")):
        if result := contrast(table, "log_volume", above, below):
            yield over_replicates(
                f"Basins of {above} samples are larger than of {below} ones", "Fig. 4B",
                f"difference of log-volume, {span(result[1])}", result[0],
            )
    peak = peak_of(run, name)
    if (values := beyond_distance(run, name, peak)) is not None:
        yield over_replicates(
            "Basins of memorized samples are larger than of spurious ones at the same distance to S", "Fig. 4B",
            f"difference of log-volume beside a quadratic in ln of the distance, at K = {peak}", values,
        )
    sizes, values = common(table[peak == table.K], "log_volume", ("spurious",))
    if len(sizes) and "log_volume_floor" in table:
        yield over_replicates(
            "Basins of spurious samples are sizable", "Fig. 4B",
            f"log-volume less that of the ball of radius delta_d, at K = {peak}",
            values[:, 0, 0] - table.log_volume_floor.iloc[0],
        )
    linear = run.control("basin", name, "linear")
    if len(sizes) and linear is not None and len(row := linear[(peak == linear.K) & (linear.type == "generalized")]):
        yield over_replicates(
            "Basins of spurious samples are larger than those of a linear denoiser", "Fig. 4B",
            f"log-volume less that of samples of the linear denoiser, at K = {peak}",
            values[:, 0, 0] - row.log_volume.iloc[0], sampling=float(row.log_volume_se.iloc[0]),
        )
    if result := slope(table, "log_volume", "training"):
        yield over_replicates(
            "Basins of training images shrink as K grows", "Fig. 4B",
            f"fall of their log-volume per doubling of K, {span(result[1])}", -result[0],
        )


def of_spectra(run: Run, name: str) -> Iterator[Claim]:
    """Yield the statements about curvature: by type at and after the peak, and of training images by K (Fig. 5A)."""
    if (table := run.replicates("curvature", name)) is None:
        return
    peak = peak_of(run, name)
    measures = {
        "jacobian": ("Jacobian", "degrees_of_freedom", -1, "fewer degrees of freedom"),
        "central": ("Alg. 2", "effective_rank", 1, "higher effective rank"),
    }
    for method, (title, column, sign, words) in measures.items():
        part = table[table.method == method]
        if column not in part or part.empty:
            continue
        for kind in TYPES[:2]:
            if result := contrast(part, column, kind, "generalized", first=peak):
                yield over_replicates(
                    f"Around {kind} samples the energy curves in more directions than around generalized ones "
                    f"({title})", "Fig. 5A", f"{words}, from the peak on: {span(result[1])}", sign * result[0],
                )
        if result := slope(part, "median", "training"):
            yield over_replicates(
                f"Singular values at training images fall as K grows ({title})", "Fig. 5A",
                f"fall of the median singular value per doubling of K, {span(result[1])}", -result[0],
            )


def of_energies(run: Run, name: str) -> Iterator[Claim]:
    """Yield the statements about the energy above training images (Figs. 6, 26-30), averaged over references."""
    if (table := run.replicates("energy", name)) is None:
        return
    table = table.groupby(["K", "type", "replicate"], as_index=False)[["gap", "n"]].mean()
    for kind, sign, words in (("memorized", 1, "grows"), ("generalized", -1, "falls")):
        if result := slope(table, "gap", kind):
            yield over_replicates(
                f"The energy of {kind} samples {words} with K", "Fig. 6",
                f"{'rise' if sign > 0 else 'fall'} of their gap per doubling of K, {span(result[1])}",
                sign * result[0],
            )
    for kind in ("memorized", "generalized"):
        if result := contrast(table, "gap", kind, "spurious"):
            yield over_replicates(
                f"In the transition spurious samples have a lower energy than {kind} ones", "Fig. 6",
                f"gap of {kind} less that of spurious samples, {span(result[1])}", result[0],
            )


def claims(run: Run, name: str, random: np.random.Generator) -> pd.DataFrame:
    """Return the table of claims of sweep `name`: what its tables, whichever there are, say of the paper's statements.

    random: a numpy generator that draws halves of S'.
    """
    parts = [
        of_fractions(run, name), of_histograms(run, name), of_samples(run, name, random), of_basins(run, name),
        of_spectra(run, name), of_energies(run, name),
    ]
    return verdicts([claim for part in parts for claim in part])
