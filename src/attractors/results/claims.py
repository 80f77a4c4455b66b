"""The paper's statements as rows of a table: an effect, its interval and p-value over replicates, and a verdict.

An effect is positive where the statement is true. Intervals and p-values count replicates as everything else does
(`results.replicates`), and p-values are corrected for the number of statements about a sweep (Holm). The verdict is
`holds` or `does not hold` where the corrected p-value is below 0.05, by the sign of the effect, and else `cannot be
told`; without replicates it says that it is of one seed. Statements that two things are alike have a margin: they hold
where the whole interval lies within it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from attractors.distances.detection import TYPES
from attractors.results.comparison import counts_of, holm
from attractors.results.replicates import RESAMPLES, dispersion, drawn, interval
from attractors.results.run import Run, crossings

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
ONE_SEED = " (one seed)"  # of a verdict without replicates, which another seed may overturn
LEVEL = 0.05
SAME_SHARE = 0.05  # spurious fractions of S' and of half of it that differ by less are alike
SAME_ENERGY = 0.1  # energies that differ by less than this share of the largest gap of generalized samples are alike


@dataclass(frozen=True)
class Claim:
    """One statement of the paper and what a sweep says of it."""

    claim: str
    source: str  # where the paper says it
    measure: str  # what the effect is
    effect: float
    low: float  # of the 95% interval of the effect
    high: float
    p: float  # two-sided, of no effect; nan for a statement with a margin
    degrees: int  # of freedom that replicates give; 0: interval and p are of samples alone
    margin: float = float("nan")  # within which an effect counts as none


def by_error(claim: str, source: str, measure: str, effect: float, error: float, degrees: int) -> Claim:
    """Return the claim of an effect with a standard error of so many degrees of freedom (0: normal)."""
    free = degrees or np.inf
    half = stdtrit(free, 0.975) * error
    p = 2 * stdtr(free, -abs(effect / error)) if error > 0 else np.nan
    return Claim(claim, source, measure, float(effect), float(effect - half), float(effect + half), float(p), degrees)


def by_draws(claim: str, source: str, measure: str, effect: float, draws: np.ndarray, degrees: int) -> Claim:
    """Return the claim of an effect whose distribution is given by draws: [n]; those that are not finite count as 0."""
    draws = np.where(np.isfinite(draws), draws, 0)
    p = 2 * min((1 + (draws <= 0).sum()) / (1 + len(draws)), (1 + (draws >= 0).sum()) / (1 + len(draws)))
    low, high = interval(draws)
    return Claim(claim, source, measure, float(effect), float(low), float(high), min(1.0, float(p)), degrees)


def verdicts(claims: list[Claim]) -> pd.DataFrame:
    """Return the table of claims, with `p_corrected` for their number and `verdict`."""
    table = pd.DataFrame([asdict(claim) for claim in claims])
    tested = table.p.notna()
    table["p_corrected"] = np.nan
    table.loc[tested, "p_corrected"] = holm(table.p[tested])
    sure = table.p_corrected < LEVEL
    table["verdict"] = np.where(sure & (table.effect > 0), HOLDS, np.where(sure & (table.effect < 0), FAILS, OPEN))
    alike = table.margin.notna() & table.low.notna()
    inside, outside = (
        (table.low > -table.margin) & (table.high < table.margin),
        (table.low > table.margin) | (table.high < -table.margin),
    )
    table.loc[alike & inside, "verdict"], table.loc[alike & outside, "verdict"] = HOLDS, FAILS
    table.loc[(table.degrees == 0) & (table.verdict != OPEN), "verdict"] += ONE_SEED
    return table.drop(columns="margin")


def contrast(table: pd.DataFrame, column: str, above: str, below: str) -> tuple[float, float, int, int, int] | None:
    """Return how far type `above` lies above type `below`, pooled over sizes; None where no size has both.

    (mean difference weighted by 1 / variance, its standard error, degrees of freedom, sizes where it is positive,
    sizes). Different sizes are different models, so their errors are independent.
    """
    first, second = (table[(table.type == kind) & (table.n > 1)].set_index("K") for kind in (above, below))
    sizes = first.index.intersection(second.index)
    difference = first[column][sizes] - second[column][sizes]
    variance = first[f"{column}_se"][sizes] ** 2 + second[f"{column}_se"][sizes] ** 2
    known = np.isfinite(difference) & np.isfinite(variance) & (variance > 0)
    if not known.any():
        return None
    weights = 1 / variance[known]
    effect = float((weights * difference[known]).sum() / weights.sum())
    degrees = int(min(first.degrees.min(), second.degrees.min()))
    return effect, float(weights.sum() ** -0.5), degrees, int((difference[known] > 0).sum()), int(known.sum())


def slope(table: pd.DataFrame, column: str, kind: str) -> tuple[float, float, int] | None:
    """Return the slope of a column of one type per doubling of K, its standard error and degrees of freedom.

    It is a fit weighted by 1 / variance; None with fewer than three sizes.
    """
    part = table[(table.type == kind) & (table[f"{column}_se"] > 0)]
    if len(part) < 3:
        return None
    x, weights = np.log2(part.K), part[f"{column}_se"] ** -2.0
    x = x - (weights * x).sum() / weights.sum()
    spread = (weights * x**2).sum()
    return float((weights * x * part[column]).sum() / spread), float(spread**-0.5), int(part.degrees.min())


def of_fractions(run: Run, name: str, random: np.random.Generator) -> Iterator[Claim]:
    """Yield the statements about the fractions of the three types (Fig. 4A)."""
    single = run.replicates("fractions", name)
    sizes, counts = np.unique(single.K), counts_of(single)
    phi = dispersion(counts)
    shares = np.stack([part.sum(0) / part.sum() for part in counts])[None]
    draws = drawn(counts, phi, RESAMPLES, random)

    spare = sum(len(part) - 1 for part in counts)  # replicates; phi has no degrees where all samples are of one type

    def told(claim: str, measure: str, effect: Any) -> Claim:
        return by_draws(claim, "Fig. 4A", measure, effect(shares)[0], effect(draws), spare)

    yield told(
        "Memorization falls as K grows",
        f"memorized at K = {sizes[0]} less memorized at K = {sizes[-1]}",
        lambda x: x[:, 0, 0] - x[:, -1, 0],
    )
    if len(sizes) > 2:
        yield told(
            "The spurious fraction peaks inside the range of K",
            "largest spurious fraction inside less that at the ends",
            lambda x: x[:, 1:-1, 1].max(1) - x[:, [0, -1], 1].max(1),
        )

    def inside(x: np.ndarray) -> np.ndarray:
        peak = np.log(sizes[x[..., 1].argmax(1)])
        high, low = (np.log(crossings(sizes, x[..., 0], level)) for level in (0.9, 0.1))
        return np.minimum(peak - high, low - peak)

    yield told(
        "Spurious states appear where memorization falls",
        "ln of how far the K of the peak lies inside the range where memorized samples fall from .9 to .1",
        inside,
    )
    yield told(
        "Generalization takes over at large K",
        f"generalized at K = {sizes[-1]} less one half",
        lambda x: x[:, -1, 2] - 0.5,
    )


def halved(run: Run, name: str, size: int, limit: float, random: np.random.Generator) -> np.ndarray:
    """Return, for each replicate, the spurious fraction of S' less that in a random half of it: [R].

    A sample of the half is spurious where one of its stored neighbours within `limit` (delta_s) is in the half, too.
    Where more neighbours than are stored lie within it and none of the stored is in the half, one of the others is
    taken to be.
    """
    from attractors.arrays import read_arrays

    codes, owner, found = run.codes(name, size), run.replicate(name, size), []
    for number, path in run.files("neighbours", name, size).items():
        arrays, _ = read_arrays(path, "synthetic_distances", "synthetic_indices")
        near, indices = arrays["synthetic_distances"] <= limit, arrays["synthetic_indices"]
        own, kept = codes[owner == number], random.random(len(indices)) < 0.5
        present = near & kept[np.clip(indices, 0, None)] & (indices >= 0)
        repeats = present.any(1) | near.all(1)
        free = own != TYPES.index("memorized")
        found.append((own == TYPES.index("spurious")).mean() - (repeats & free)[kept].mean())
    return np.array(found)


def of_samples(run: Run, name: str, clusters: dict | None, random: np.random.Generator) -> Iterator[Claim]:
    """Yield the statements about spurious samples at the peak: groups of their own, and the size of S' (Fig. 9)."""
    rows = [row for row in (clusters or {}).get("replicates", []) if row["share"] is not None]
    if rows:
        pairs = np.array([(row["share"], row["generalized_share"] or 0) for row in rows])
        difference = pairs[:, 0] - pairs[:, 1]
        if len(rows) > 1:
            error = difference.std(ddof=1) / np.sqrt(len(rows))
        else:
            totals = np.array([rows[0]["spurious"], max(rows[0]["generalized"], 1)])
            error = float(np.sqrt((pairs[0] * (1 - pairs[0]) / totals).sum()))
        yield by_error(
            "Spurious samples gather at states of their own", "Fig. 3, B.3",
            "share of spurious samples in groups of three or more that are farther from S than wide, less that of "
            "generalized samples that repeat each other most", difference.mean(), error, len(rows) - 1,
        )
    limits = run.table("thresholds", name)
    peak = int(run.peak(name).K)
    if limits is not None and run.files("neighbours", name, peak):
        delta_s = float(limits.delta_s[peak == limits.K].iloc[0])
        lost = halved(run, name, peak, delta_s, random)
        error = lost.std(ddof=1) / np.sqrt(len(lost)) if len(lost) > 1 else np.nan
        claim = by_error(
            "Half as many samples show the same spurious fraction", "Fig. 9",
            f"spurious fraction of S' less that of half of it, at K = {peak}; alike within {SAME_SHARE:g}",
            lost.mean(), error, len(lost) - 1,
        )
        yield Claim(**{**asdict(claim), "p": np.nan, "margin": SAME_SHARE})


def of_basins(run: Run, name: str) -> Iterator[Claim]:
    """Yield the statements about volumes and critical times (Fig. 4B)."""
    if (table := run.table("basin", name)) is None:
        return
    for column, words in (("log_volume", "log-volume"), ("t_c", "critical time")):
        for above, below in (("memorized", "spurious"), ("spurious", "generalized")):
            if found := contrast(table, column, above, below):
                effect, error, degrees, positive, sizes = found
                yield by_error(
                    f"{'Basins' if column == 'log_volume' else 'Critical times'} of {above} samples are larger than of "
                    f"{below} ones", "Fig. 4B",
                    f"mean difference of {words}, positive at {positive} of {sizes} sizes", effect, error, degrees,
                )
    if found := slope(table, "log_volume", "training"):
        effect, error, degrees = found
        yield by_error(
            "Basins of training images shrink as K grows", "Fig. 4B", "fall of their log-volume per doubling of K",
            -effect, error, degrees,
        )


def of_spectra(run: Run, name: str) -> Iterator[Claim]:
    """Yield the statements about curvature: at the peak by type, and of training images against K (Fig. 5A)."""
    if (table := run.table("curvature", name)) is None:
        return
    peak = int(run.peak(name).K)
    measures = {
        "jacobian": ("Jacobian", "degrees_of_freedom", -1, "fewer degrees of freedom"),
        "central": ("Alg. 2", "effective_rank", 1, "higher effective rank"),
    }
    more = "energy curves in more directions than around generalized ones"
    for method, (title, column, sign, words) in measures.items():
        part = table[table.method == method]
        if column not in part or part.empty:
            continue
        for kind in TYPES[:2]:
            if found := contrast(part[peak == part.K], column, kind, "generalized"):
                effect, error, degrees, *_ = found
                yield by_error(
                    f"Around {kind} samples the {more} ({title})", "Fig. 5A", f"{words}, at K = {peak}",
                    sign * effect, error, degrees,
                )
        if found := slope(part, "median", "training"):
            effect, error, degrees = found
            yield by_error(
                f"Singular values at training images fall as K grows ({title})", "Fig. 5A",
                "fall of the median singular value per doubling of K", -effect, error, degrees,
            )


def of_energies(run: Run, name: str) -> Iterator[Claim]:
    """Yield the statements about the energy above training images (Figs. 6, 26-30), averaged over references."""
    if (table := run.table("energy", name)) is None:
        return
    keys = ["K", "type"]
    table = table.groupby(keys, as_index=False, sort=False)[["gap", "gap_se", "n", "degrees"]].mean()
    memorized, generalized = (table[table.type == kind] for kind in ("memorized", "generalized"))
    if len(memorized) and len(generalized):
        first, scale = memorized.iloc[0], generalized.gap.abs().max()
        claim = by_error(
            "The energy of memorized samples starts at that of training images", "Fig. 6",
            f"gap of memorized samples at K = {first.K:.0f} in units of the largest gap of generalized ones; alike "
            f"within {SAME_ENERGY:g}", first.gap / scale, first.gap_se / scale, int(first.degrees),
        )
        yield Claim(**{**asdict(claim), "p": np.nan, "margin": SAME_ENERGY})
    if found := slope(table, "gap", "memorized"):
        effect, error, degrees = found
        yield by_error(
            "The energy of memorized samples grows with K", "Fig. 6", "rise of their gap per doubling of K", effect,
            error, degrees,
        )
    peak = int(run.peak(name).K)
    for kind in ("memorized", "generalized"):
        if found := contrast(table[peak == table.K], "gap", kind, "spurious"):
            effect, error, degrees, *_ = found
            yield by_error(
                f"In the transition spurious samples have a lower energy than {kind} ones", "Fig. 6",
                f"gap of {kind} less that of spurious samples at K = {peak}", effect, error, degrees,
            )


def of_controls(run: Run, name: str) -> Iterator[Claim]:
    """Yield what the closed forms should give: one memorizes and the other generalizes, whatever the thresholds."""
    expected = {"exact": ("memorized", 0.95), "linear": ("generalized", 0.99)}
    for form, (kind, least) in expected.items():
        if (table := run.control("fractions", name, form)) is not None:
            table = table[table.K > 2] if form == "linear" else table  # two images span a line through both
            row = table.loc[table[kind].idxmin()]
            error = max(float(row[f"{kind}_se"]), 1 / row["count"])
            yield by_error(
                f"Control: the {form} denoiser has {kind} samples only", "Eqs. 3-5",
                f"smallest {kind} fraction, at K = {row.K:.0f}, less {least}; K = 2 is left out of the linear one",
                row[kind] - least, error, int(row["count"]),
            )


def claims(run: Run, name: str, clusters: dict | None, random: np.random.Generator) -> pd.DataFrame:
    """Return the table of claims of sweep `name`: what its tables, whichever there are, say of the paper's statements.

    clusters: what the stage `clusters` wrote, or None. random: a numpy generator for the intervals of fractions.
    """
    parts = [
        of_fractions(run, name, random), of_samples(run, name, clusters, random), of_basins(run, name),
        of_spectra(run, name), of_energies(run, name), of_controls(run, name),
    ]
    return verdicts([claim for part in parts for claim in part])
