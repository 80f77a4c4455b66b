"""Measurements joined with types: the estimate of a mean over all samples of a type from those that were measured.

Which samples are measured follows from their distances alone (`landscape.selection`), and their types follow from the
thresholds. Each measured sample has a weight, the number of samples of S' that it represents. A weighted mean over the
measured samples of a type estimates the mean over all samples of that type (Hajek's estimator), whatever the thresholds
are.

The samples of all replicates form one population. Each mean has two standard errors, one of sampling alone and one with
replicates as the units that are drawn; `with_replicates` makes one of them (`results.replicates`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from attractors.distances.detection import TYPES, selection
from attractors.results.replicates import Dispersion, moderated, pooled

Arrays = dict[str, np.ndarray]


class Kind(NamedTuple):
    """The measured samples of one type, or the measured training images."""

    name: str
    prefix: str  # of the names of its arrays in a file of measurements: training_, or nothing
    rows: np.ndarray  # [n] int64, its rows in these arrays
    weights: np.ndarray  # [n] float64, how many samples each stands for
    nearest: np.ndarray  # [n] bool, whether the paper would measure it (C.2)
    replicate: np.ndarray  # [n] int16, the number of its replicate
    total: int  # samples of the type in all replicates, or training images

    @property
    def counts(self) -> dict[str, Any]:
        """The first columns of a row of a table: type, n (measured), total, and how many replicates have it."""
        return {
            "type": self.name, "n": len(self.rows), "total": self.total, "replicates": len(np.unique(self.replicate)),
        }


def kinds(
    codes: np.ndarray, to_training: np.ndarray, within: np.ndarray, arrays: Arrays, size: int, limit: int = 512,
    rare: float = 0.001,
) -> list[Kind]:
    """Return the measured samples of each type, with the training images last.

    codes: [N'] into TYPES. to_training, within: [N'] distances. arrays is the result of `Run.measurements`, of which
    `numbers`, `weight`, `replicate` and the same of `training_` are read. size: K. limit and rare are those of
    `detection.selection`; types that are rarer than `rare`, and types of which nothing was measured, are left out.
    Raises ValueError where the measurements are not of samples of this S'.
    """
    numbers, weight = arrays["numbers"], arrays["weight"]
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(codes):
        raise ValueError(f"measurements of sample {numbers.max()}; there are {len(codes)}")
    if not len(codes) == len(to_training) == len(within):
        raise ValueError(f"{len(codes)} types and {len(to_training)} distances")
    parts = []
    for name, members in selection(codes, to_training, within, limit, rare).items():
        code = TYPES.index(name)
        rows = np.flatnonzero(codes[numbers] == code)
        total = int((codes == code).sum())
        if len(rows):
            near = np.isin(numbers[rows], members)
            parts.append(Kind(name, "", rows, weight[rows], near, arrays["replicate"][rows], total))
    rows, owner = np.arange(len(arrays["training_numbers"])), arrays["training_replicate"]
    none, total = np.zeros(len(rows), bool), size * len(np.unique(owner))
    return [*parts, Kind("training", "training_", rows, np.ones(len(rows)), none, owner, total)]


def estimate(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Hajek's estimate of the mean of a population from n weighted members: (mean, deviation, standard error).

    values: [n, ...]. weights: [n] > 0. The mean is sum w y / sum w. With e = y - mean, the deviation between members is
    sqrt(sum w e^2 / sum w), and the standard error is sqrt(sum w^2 e^2) / sum w by linearisation, which counts both the
    draw of the members and the draw of the population by the model. Both are multiplied by sqrt(n / (n - 1)). With
    equal weights they are the usual standard deviation and standard error. They are nan for fewer than two members.
    """
    count, weights = len(values), weights.reshape(-1, *[1] * (values.ndim - 1))
    if not count:
        return (np.full(values.shape[1:], np.nan),) * 3
    total = weights.sum()
    mean = (weights * values).sum(0) / total
    if count == 1:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    squares, more = np.square(values - mean), count / (count - 1)
    deviation = np.sqrt(more * (weights * squares).sum(0) / total)
    return mean, deviation, np.sqrt(more * (weights**2 * squares).sum(0)) / total


def single(members: list[Kind], number: int) -> list[Kind]:
    """Return the measured samples of one replicate among `members`, without the types of which it has none.

    `total` stays that of all replicates.
    """
    parts = []
    for kind in members:
        chosen = kind.replicate == number
        if chosen.any():
            rows = {name: getattr(kind, name)[chosen] for name in ("rows", "weights", "nearest", "replicate")}
            parts.append(kind._replace(**rows))
    return parts


def error_of_replicates(values: np.ndarray, weights: np.ndarray, replicate: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean of `estimate` if replicates are drawn, not samples; nan for fewer than two.

    values: [n, ...]. weights: [n]. replicate: [n] integers. With e = y - mean, z_r = sum w e over replicate r and R
    replicates, it is sqrt(R / (R - 1) sum z_r^2) / sum w, the linearised error of a ratio from R clusters.
    """
    numbers, weights = np.unique(replicate), weights.reshape(-1, *[1] * (values.ndim - 1))
    if (count := len(numbers)) < 2:
        return np.full(values.shape[1:], np.nan)
    errors = weights * (values - (weights * values).sum(0) / weights.sum())
    totals = np.stack([errors[replicate == number].sum(0) for number in numbers])
    return np.sqrt(count / (count - 1) * np.square(totals).sum(0)) / weights.sum()


def columns(name: str, values: np.ndarray, kind: Kind) -> dict[str, Any]:
    """Return the columns of one quantity: NAME, NAME_std, NAME_se, NAME_between, NAME_nearest and NAME_nearest_se.

    values: [n] or [n, m] of the kind's members; those with values that are not finite are left out. The columns are
    numbers, or [m] each. NAME_se counts sampling alone, and NAME_between is `error_of_replicates`. C.2 takes the
    samples of a type that are nearest by the distance that defines it: NAME_nearest estimates the mean over these from
    those of them that were measured.
    """
    known = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    some = slice(None) if known.all() else known  # a copy has another order in memory, by which sums differ
    mean, deviation, error = estimate(values[some], kind.weights[some])
    between = error_of_replicates(values[some], kind.weights[some], kind.replicate[some])
    known &= kind.nearest
    nearest, _, nearest_error = estimate(values[known], kind.weights[known])
    statistics = {
        "": mean, "_std": deviation, "_se": error, "_between": between,
        "_nearest": nearest, "_nearest_se": nearest_error,
    }
    return {f"{name}{suffix}": value[()] for suffix, value in statistics.items()}


def above_training(arrays: Arrays, prefix: str = "") -> np.ndarray:
    """Return the energies less the mean energy of the training images of the same replicate (Eq. 48): [n, references].

    prefix: `training_` for those of training images themselves.
    """
    energies, owner = arrays[f"{prefix}energy"].copy(), arrays[f"{prefix}replicate"]
    for number in np.unique(owner):
        at_training = arrays["training_energy"][arrays["training_replicate"] == number]
        energies[owner == number] -= at_training.mean(0)
    return energies


def with_replicates(table: pd.DataFrame, keys: Sequence[str] = ("type",)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (the table of all K with standard errors that count replicates, the dispersions that made them).

    For each quantity and each group of `keys`, phi is (NAME_between / NAME_se)^2 at each K with R replicates, moderated
    by its mean over all K, weighted by R - 1 (`replicates.moderated`). NAME_se and NAME_nearest_se are multiplied by
    its root, NAME_sampling keeps the error of sampling, and NAME_between is dropped. `degrees` are the degrees of
    freedom of phi, and `quantile` times a standard error makes a 95% interval. The second table has the mean phi.
    """
    names = [column.removesuffix("_between") for column in table if column.endswith("_between")]
    table = table.rename(columns={f"{name}_se": f"{name}_sampling" for name in names})
    parts, rows = [], []
    for key, rows_of in table.groupby(list(keys), sort=False):
        sizes = rows_of.drop_duplicates("K")
        spare = sizes.set_index("K").replicates - 1
        each = {K: moderated(1.0, count, Dispersion(1.0, spare.sum())) for K, count in spare.items()}
        part = rows_of.assign(degrees=[each[K].degrees for K in rows_of.K],
                              quantile=[each[K].quantile() for K in rows_of.K])
        for name in names:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = (part[f"{name}_between"] / part[f"{name}_sampling"]) ** 2
            ratio = ratio[np.isfinite(ratio)].groupby(part.K).mean()
            phi = pooled(ratio.tolist(), spare[ratio.index].tolist())
            phis = {K: moderated(ratio[K], spare[K], phi).value for K in ratio.index}
            root = np.sqrt(part.K.map(phis).fillna(phi.value))
            part[f"{name}_se"] = part[f"{name}_sampling"] * root
            part[f"{name}_nearest_se"] *= root
            rows.append({"quantity": name, **dict(zip(keys, key, strict=True)), "dispersion": phi.value,
                         "degrees": phi.degrees})
        parts.append(part.drop(columns=[f"{name}_between" for name in names]))
    return pd.concat(parts).loc[table.index], pd.DataFrame(rows)
