"""Tables of other definitions of memorization: values at each K, and the K at which each curve crosses its half."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from attractors.results.replicates import dispersions, fraction_interval, interval
from attractors.results.run import crossings
from attractors.yardsticks.adaptive import is_copy
from attractors.yardsticks.gap import memorized_gap, relative_gap
from attractors.yardsticks.ratio import effective_size, is_memorized
from attractors.yardsticks.training_time import growth, memorization_onset, quality_onset

Arrays = dict[str, np.ndarray]
RESAMPLES = 200  # of images, for the errors of quantities that are no mean over them
DRAWS = 2000  # of curves, for the intervals of their crossings


class Curve(NamedTuple):
    """A yardstick that passes from memorization to generalization with K."""

    label: str
    rises: bool = False
    level: float | None = 0.5  # its half; None: the middle between its least and its largest value


CURVES = {
    "ratio": Curve("memorized: d1/d2 < 1/3"),
    "adaptive": Curve("copies: adaptive distance < 1"),
    "held_out_gap": Curve("held-out denoising gap"),
    "flipd": Curve("local dimension (FLIPD)", True, None),
    "path_departure": Curve("departure from exact along paths", True, None),
    "agreement": Curve("agreement of two networks", True),
}
Runs = Mapping[int, Sequence[tuple[Arrays, dict[str, Any]]]]  # by K, one for each replicate


class Estimate(NamedTuple):
    """A value with its standard error in one replicate, nan where there is none."""

    value: float
    error: float = math.nan


def mean(values: np.ndarray) -> Estimate:
    """Return the mean of values: [n] with its standard error."""
    return Estimate(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))))


def resampled(value: Callable[..., float], *tables: np.ndarray, pairs: Sequence[int]) -> Estimate:
    """Return value(*tables) with the standard deviation that another choice of images gives it (bootstrap).

    tables: [L, n] each. pairs: for each table the number of its set of images; tables of one set are resampled alike.
    """
    random, drawn = np.random.default_rng(0), []
    counts = {number: table.shape[1] for number, table in zip(pairs, tables, strict=True)}
    for _ in range(RESAMPLES):
        rows = {number: random.integers(0, count, count) for number, count in counts.items()}
        drawn.append(value(*(table[:, rows[number]] for number, table in zip(pairs, tables, strict=True))))
    return Estimate(float(value(*tables)), float(np.std(drawn, ddof=1)))


def typical(values: np.ndarray) -> Estimate:
    """Return the median of values: [n] with its standard error by bootstrap."""
    return resampled(lambda table: float(np.median(table)), values[None], pairs=(0,))


def run_values(arrays: Arrays, record: dict[str, Any]) -> dict[str, Estimate]:
    """Return what a file of the stage `yardsticks` says apart from shares: {yardstick: Estimate}.

    Quantities that need the model are missing where it was measured without one, and the gap where no image is held
    out. Dimensions are medians, because a sample far off the model's manifold has a dimension in the hundreds.
    """
    if "samples_flipd" not in arrays:
        return {}
    values = {
        "flipd": typical(arrays["samples_flipd"]), "flipd_training": typical(arrays["training_flipd"]),
        "data_dimension": Estimate(record["data_dimension"]), "speciation_time": Estimate(record["speciation_time"]),
        "collapse_time": Estimate(record["collapse_time"]),
    }
    for name in ("path", "training"):
        values[f"{name}_departure"] = resampled(
            lambda off, spread: off.mean() / spread.mean(),
            arrays[f"{name}_departure"], arrays[f"{name}_spread"], pairs=(0, 0),
        )
    if "samples_gap_dimension" in arrays:
        values["gap_dimension"] = mean(arrays["samples_gap_dimension"].astype(float))
    if "held_out_flipd" in arrays:
        values["flipd_held_out"] = typical(arrays["held_out_flipd"])
        names = [f"{who}_{where}_error" for who in ("model", "exact") for where in ("training", "held_out")]
        values["held_out_gap"] = resampled(memorized_gap, *(arrays[name] for name in names), pairs=(0, 1, 0, 1))
    return values


def along_values(arrays: Arrays) -> list[dict[str, Estimate]]:
    """Return what a file of the stage `training_time` says of its two networks: a dict of `Estimate` for each."""
    steps = arrays["steps"].tolist()
    networks = [
        {
            "memorization_step": Estimate(memorization_onset(steps, shares)),
            "quality_step": Estimate(quality_onset(steps, distances)), "last_share": Estimate(float(shares[-1])),
            "closeness": mean(closeness),
        }
        for shares, distances, closeness in zip(
            arrays["memorized"], arrays["frechet"], arrays["closeness"], strict=True
        )
    ]
    networks[0]["agreement"] = mean(arrays["agreement"])
    return networks


def shares(runs: Runs) -> pd.DataFrame:
    """Return the rows of the shares of memorized samples, by the ratio and by the adaptive distance."""
    rows = []
    for name, rule in (("ratio", is_memorized), ("adaptive", is_copy)):
        counts = {
            size: np.array([[(hit := int(rule(arrays[name]).sum())), len(arrays[name]) - hit] for arrays, _ in files])
            for size, files in runs.items()
        }
        for (size, table), phi in zip(counts.items(), dispersions(list(counts.values())), strict=True):
            value, low, high, _ = (part[0] for part in fraction_interval(table, phi))
            rows.append({"K": size, "yardstick": name, "value": value, "low": low, "high": high, "runs": len(table)})
    return pd.DataFrame(rows)


def estimates(size: int, replicates: Sequence[dict[str, Estimate]]) -> list[dict[str, Any]]:
    """Return the rows of one K from the estimates of its replicates.

    With several replicates the interval is Student's for their mean. With one replicate it is the normal interval of
    its standard error.
    """
    rows = []
    for name in dict.fromkeys(key for part in replicates for key in part):
        parts = [part[name] for part in replicates if name in part and math.isfinite(part[name].value)]
        values = np.array([part.value for part in parts])
        if len(parts) > 1:
            half = stdtrit(len(parts) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(parts))
        else:
            half = 1.96 * parts[0].error if parts else math.nan
        value = float(values.mean()) if parts else math.nan
        rows.append({
            "K": size, "yardstick": name, "value": value, "low": value - half, "high": value + half, "runs": len(parts),
        })
    return rows


def yardsticks_table(runs: Runs, along: Mapping[int, Arrays]) -> pd.DataFrame:
    """Return one row for each yardstick and K: value, 95% interval, and how many runs it is the mean of.

    runs: files of the stage `yardsticks` by K. along: those of `training_time` by K. Either may be empty.
    """
    parts = [shares(runs)] if runs else []
    rows = [row for size, files in runs.items() for row in estimates(size, [run_values(*file) for file in files])]
    rows += [row for size, arrays in along.items() for row in estimates(size, along_values(arrays))]
    table = pd.concat([*parts, pd.DataFrame(rows)], ignore_index=True)
    order = {name: number for number, name in enumerate(dict.fromkeys([*CURVES, *table.yardstick]))}
    return table.sort_values(["yardstick", "K"], key=lambda part: part.map(order) if part.name != "K" else part,
                             ignore_index=True)


def half_of(curve: Curve, values: np.ndarray) -> float:
    """Return the level that counts as half of a curve with these values: [m]."""
    return curve.level if curve.level is not None else float(values.min() + values.max()) / 2


def crossing(part: pd.DataFrame, curve: Curve, random: np.random.Generator) -> tuple[float, float, float, float]:
    """Return (half, K at which the curve crosses it, low, high): interpolated in log K, with a 95% interval.

    part: the rows of one yardstick, columns K, value, low and high. The interval is that of curves whose values are
    drawn from normal distributions with the intervals of the values.
    """
    part = part[np.isfinite(part.value)].sort_values("K")
    values, sign = part.value.to_numpy(), -1 if curve.rises else 1
    if len(part) < 2:
        return math.nan, math.nan, math.nan, math.nan
    level = half_of(curve, values)
    errors = np.nan_to_num((part.high - part.low).to_numpy() / 3.92)
    drawn = values + errors * random.standard_normal((DRAWS, len(values)))
    sizes = part.K.to_numpy()
    with np.errstate(over="ignore"):  # of a pair of sizes that is not the one of the crossing
        low, high = interval(crossings(sizes, sign * drawn, sign * level))
        at = float(crossings(sizes, sign * values[None], sign * level)[0])
    return level, at, float(low), float(high)


def crossings_table(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Return one row for each curve of a table of yardsticks: its half, and the K at which it crosses it.

    Two rows follow where they can be known: `effective_size`, the largest K with 90% memorized by the ratio, and
    `memorization_growth`, the exponent of the step at which memorization sets in against K, in the column half.
    """
    rows = []
    for name, curve in CURVES.items():
        if len(part := table[table.yardstick == name]):
            rows.append((name, *crossing(part, curve, random)))
    ratio = table[table.yardstick == "ratio"]
    if (largest := effective_size(ratio.K.to_numpy(), ratio.value.to_numpy()) if len(ratio) else None) is not None:
        rows.append(("effective_size", 0.9, largest, math.nan, math.nan))
    for name in ("memorization", "quality"):
        if len(part := table[table.yardstick == f"{name}_step"]):
            rows.append((f"{name}_growth", growth(part.K, part.value), math.nan, math.nan, math.nan))
    return pd.DataFrame(rows, columns=["yardstick", "half", "K", "low", "high"])


def gaps_table(runs: Runs) -> pd.DataFrame:
    """Return the relative gap of denoising errors by K and noise level, of the model and of both closed forms.

    Values are means over replicates. Sizes without held-out images have no rows.
    """
    parts = []
    for size, files in runs.items():
        kept = [arrays for arrays, _ in files if "model_held_out_error" in arrays]
        if not kept:
            continue
        columns = {
            who: np.mean([relative_gap(a[f"{who}_training_error"], a[f"{who}_held_out_error"]) for a in kept], axis=0)
            for who in ("model", "exact", "linear")
        }
        errors = {
            f"model_{where}": np.mean([a[f"model_{where}_error"].mean(1) for a in kept], axis=0)
            for where in ("training", "held_out")
        }
        parts.append(pd.DataFrame({
            "K": size, "time": kept[0]["times"], "noise_level": kept[0]["noise_levels"], **columns, **errors,
        }))
    names = ["K", "time", "noise_level", "model", "exact", "linear", "model_training", "model_held_out"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)
