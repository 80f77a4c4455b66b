"""The types of all samples of a sweep, and the tables of fractions, thresholds and histograms that follow from them."""

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from attractors.distances.detection import TYPES, classify
from attractors.distances.thresholds import RATIO, Threshold, choose, equivalent_distance, find_valley
from attractors.randomness import BOOTSTRAP, generator
from attractors.results.neighbours import Distances
from attractors.results.paper import TABLE_2
from attractors.results.replicates import (
    RESAMPLES,
    Dispersion,
    dispersion,
    dispersions,
    drawn,
    fraction_interval,
    interval,
    peak_interval,
    quantities,
)
from attractors.results.run import spurious_peak

BINS = np.arange(-120, 81) / 40  # edges of log10(distance): 1e-3 to 100, 40 to the decade


def thresholds(
    given: list[float | str | None], distances: list[np.ndarray], runs: list[Distances], seed: int, stream: int
) -> list[Threshold]:
    """Return one Threshold for each of `runs`: the given number or, where it is None, the automatic choice.

    Where it is RATIO, the value is the distance within which as many samples lie, for tables and figures alone.

    distances: those that the threshold is for, [N'] of each run; the replicates of a K have one threshold. stream: 0
    for delta_m, 1 for delta_s. The choice at one K depends on no other.
    """
    sizes, bounds = [run.size for run in runs], [run.bound for run in runs]
    chosen: Any = [None] * len(runs)
    for value, run in zip(given, runs, strict=True):
        if value is None and not 0 < run.bound < np.inf:
            raise ValueError(
                f"K = {run.size}: the images of S have no spacing, from which thresholds are chosen, since S holds one "
                "image or copies of one; give --delta-m and --delta-s"
            )
    if None in given:
        valleys = [
            find_valley(part, bound, generator(seed, BOOTSTRAP, (stream << 32) | size)) if 0 < bound < np.inf else None
            for size, part, bound in zip(sizes, distances, bounds, strict=True)
        ]
        chosen = choose(valleys, bounds)
    result = []
    for value, choice, run in zip(given, chosen, runs, strict=True):
        if isinstance(value, str):
            if run.copied.min() < 0:
                wanted = "needs the distances to two different images of S (neighbours --k 2)"
                raise ValueError(f"{value} at K = {run.size}: {wanted}")
            result.append(Threshold(equivalent_distance(run.to_training, run.copied == 1), value, run.bound))
        else:
            result.append(choice if value is None else Threshold(value, "given", run.bound))
    return result


def out_of_scale(option: str, chosen: list[Threshold], distances: list[np.ndarray], name: str) -> str | None:
    """Return a line on a threshold that was given for another kind of distance, or None.

    It is one that at most sizes lies below a tenth of the automatic bound, where only exact copies are, or above the
    spacing of training images (four times the bound), where any two images are alike. distances: [N'] of each size.
    """
    odd = [each for each in chosen
           if each.source == "given" and each.bound > 0 and not 0.1 <= each.value / each.bound <= 4]
    if 2 * len(odd) <= len(chosen):
        return None
    low, middle, high = np.quantile(np.concatenate(distances), [0.01, 0.5, 0.99])
    value = odd[0].value
    return (
        f"{option}={value:g} is of another scale than the distances of {name}: 1%, half and 99% of them lie below "
        f"{low:.2g}, {middle:.2g} and {high:.2g}, and a training image has its nearest neighbour at about "
        f"{4 * odd[0].bound:.2g}; for another sweep alone: {option}={{cifar10-128: {value:g}}}"
    )


def threshold_columns(name: str, threshold: Threshold) -> dict[str, Any]:
    """Return the columns of one threshold in the table of thresholds."""
    valley = asdict(threshold.valley) if threshold.valley else {}
    return {
        name: threshold.value, f"{name}_source": threshold.source, f"{name}_bound": threshold.bound,
        **{f"{name}_valley_{key}": valley.get(key) for key in ("position", "low", "high", "depth", "p_value")},
    }


def beside_table_2(limits: pd.DataFrame, name: str, dataset: str) -> pd.DataFrame:
    """Add to the table of thresholds the ranges of Table 2, of that sweep or of the widest network on its dataset."""
    for delta, (low, high) in TABLE_2.get(name, TABLE_2[f"{dataset}-128"])._asdict().items():
        inside = np.where(limits[delta].between(low, high), "yes", "no")
        limits = limits.assign(**{f"{delta}_table_2": f"{low} to {high}", f"{delta}_in_table_2": inside})
    return limits


def counted(run: Distances, codes: np.ndarray) -> np.ndarray:
    """Return how many samples of each type each replicate has: [R, 3]."""
    numbers = np.unique(run.replicate)
    return np.stack([np.bincount(codes[run.replicate == number], minlength=len(TYPES)) for number in numbers])


def fraction_row(size: int, counts: np.ndarray, phi: Dispersion) -> dict[str, Any]:
    """Return one row of the table of fractions: the share of each type over all replicates, with its interval.

    counts: [R, 3]. NAME_se is the standard error, and NAME_sampling the part of it that finite samples explain.
    """
    shares, low, high, error = fraction_interval(counts, phi)
    columns = {"": shares, "_low": low, "_high": high, "_se": error, "_sampling": error / np.sqrt(phi.value)}
    return {"K": size, "count": int(counts.sum()), "replicates": len(counts)} | {
        f"{name}{suffix}": values[code] for code, name in enumerate(TYPES) for suffix, values in columns.items()
    }


def histogram(size: int, counts: np.ndarray, spacing: np.ndarray) -> pd.DataFrame:
    """Return the rows of one K in the table of histograms: log-spaced distances and three counts."""
    return pd.DataFrame({
        "K": size, "distance": 10 ** ((BINS[:-1] + BINS[1:]) / 2),
        "to_training": counts.sum(1), "within_synthetic": counts.sum(0),
        "training_spacing": np.histogram(np.log10(np.clip(spacing, 10 ** BINS[0], None)), BINS)[0],
    })


def summary(
    table: pd.DataFrame, limits: pd.DataFrame, counts: list[np.ndarray], random: np.random.Generator
) -> dict[str, Any]:
    """Return the numbers of `dvc metrics show`: the spurious peak, its K and thresholds, and the half-crossing.

    counts: the samples of each type in each replicate of each K, which make the intervals, NAME_low and NAME_high.
    """
    phi = dispersion(counts)
    peak = spurious_peak(table)
    beside = {column: limits[column][peak.name] for column in limits if column.endswith("_in_table_2")}
    sizes, shares = table.K.to_numpy(), table[list(TYPES)].to_numpy()[None]
    others = quantities(sizes, drawn(counts, dispersions(counts, phi), RESAMPLES, random))
    numbers: dict[str, Any] = {}
    for name, (value,) in quantities(sizes, shares).items():
        largest = name == "spurious_peak"
        digits, ends = (4, peak_interval(value, others[name])) if largest else (1, interval(others[name]))
        for suffix, number in zip(("", "_low", "_high"), (value, *ends), strict=True):
            numbers[f"{name}{suffix}"] = round(float(number), digits) if np.isfinite(number) else None
    return numbers | {
        "delta_m": round(limits.delta_m[peak.name], 4), "delta_s": round(limits.delta_s[peak.name], 4),
        "memorized_first": round(table.memorized.iloc[0], 4), "generalized_last": round(table.generalized.iloc[-1], 4),
        "dispersion": round(phi.value, 2), "dispersion_degrees": phi.degrees,
        **beside,
    }


class Classified(NamedTuple):
    """The types of all samples of a sweep, and the tables of them."""

    codes: list[np.ndarray]  # of each run: [N'] int8 into TYPES
    tables: dict[str, pd.DataFrame]  # fractions, replicates/fractions, thresholds and histograms
    arrays: dict[str, np.ndarray]  # samples by both distances, at each K: what `scaled_spurious` reads
    summary: dict[str, Any]


def classified(
    runs: list[Distances], thresholds_m: list[Threshold], thresholds_s: list[Threshold], name: str, dataset: str | None,
    random: np.random.Generator,
) -> Classified:
    """Return the type of every sample (Eqs. 9-11) of the sweep `name`, and the tables.

    Each run has one threshold of either kind. dataset: of the sweep, for the ranges of Table 2.
    """
    codes, limits, counts = [], [], []
    for run, m, s in zip(runs, thresholds_m, thresholds_s, strict=True):
        memorized = run.copied == 1 if m.source == RATIO else None
        codes.append(classify(run.to_training, run.within, m.value, s.value, memorized))
        limits.append({"K": run.size, **threshold_columns("delta_m", m), **threshold_columns("delta_s", s)})
        first, second = (np.log10(np.clip(d, 10 ** BINS[0], 10 ** BINS[-1])) for d in (run.to_training, run.within))
        counts.append(np.histogram2d(first, second, [BINS, BINS])[0].astype(np.int32))
    types = [counted(run, part) for run, part in zip(runs, codes, strict=True)]
    rows = [fraction_row(run.size, part, phi) for run, part, phi in zip(runs, types, dispersions(types), strict=True)]
    table = pd.DataFrame(rows)
    single = [
        {"K": run.size, "replicate": number, "count": row.sum(), **dict(zip(TYPES, row / row.sum(), strict=True))}
        for run, part in zip(runs, types, strict=True)
        for number, row in zip(np.unique(run.replicate), part, strict=True)
    ]
    bars = [histogram(run.size, count, run.spacing) for run, count in zip(runs, counts, strict=True)]
    of_thresholds = pd.DataFrame(limits)
    if f"{dataset}-128" in TABLE_2:
        of_thresholds = beside_table_2(of_thresholds, name, str(dataset))
    tables = {
        "fractions": table, "replicates/fractions": pd.DataFrame(single), "thresholds": of_thresholds,
        "histograms": pd.concat(bars),
    }
    arrays = {"sizes": table.K.to_numpy(), "log10_edges": BINS, "counts": np.stack(counts)}
    return Classified(codes, tables, arrays, summary(table, of_thresholds, types, random))
