"""The paper's statements on the types of samples: their fractions, histograms of distances, and the size of S'."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from attractors.arrays import read_arrays
from attractors.distances.detection import TYPES
from attractors.results.claims import LEVEL, Claim, others_of, over_replicates, peak_of, replicated, verdicts
from attractors.results.run import Run

SAME_SHARE = 0.05  # a spurious fraction that changes by less than this share of itself is the same


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


def of_states(run: Run, name: str) -> Iterator[Claim]:
    """Yield what the samples at the spurious peak say of states: whether they stay, recur, and are blends of S."""
    peak = peak_of(run, name)

    def at_peak(kind: str, **rows: str) -> pd.DataFrame | None:
        table = run.table(kind, name)
        table = None if table is None else table[peak == table.K]
        for column, value in rows.items():
            table = None if table is None else table[table[column] == value]
        return table if table is not None and len(table) else None

    if (ends := at_peak("ends", type="spurious")) is not None:
        yield over_replicates(
            "Spurious samples stay where they are when they are denoised again and again", "Fig. 1A",
            f"share of spurious samples that stay within delta_m, less one half, at K = {peak}", ends.stayed - 0.5,
        )
    if (table := at_peak("repetition")) is not None:
        yield over_replicates(
            "Samples that are no copies repeat a limited number of states", "Sec. 4.1",
            f"one half less the exponent with which states grow with samples, at K = {peak}", 0.5 - table.exponent,
        )
    blends, others = (at_peak("blends", type="spurious", against=against) for against in ("S", "others"))
    if blends is not None and others is not None and len(blends) == len(others):
        shares = [(part.two + part.three).to_numpy() for part in (blends, others)]
        yield over_replicates(
            "Spurious samples are blends of two or three training images", "Not in the paper",
            f"share within delta_m of such a blend, less that with other images in place of S, at K = {peak}",
            shares[0] - shares[1],
        )


def claims(
    run: Run, name: str, random: np.random.Generator, others: Iterable[Callable[[Run, str], Iterator[Claim]]]
) -> pd.DataFrame:
    """Return the table of claims of sweep `name`: what its tables, whichever there are, say of the paper's statements.

    random: a numpy generator that draws halves of S'. others: yield the claims on measured quantities.
    """
    parts = [of_fractions(run, name), of_histograms(run, name), of_samples(run, name, random), of_states(run, name)]
    return verdicts([claim for part in (*parts, *(other(run, name) for other in others)) for claim in part])
