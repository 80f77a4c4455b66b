"""Tables on what spurious samples are: where denoising leads them, how often they repeat, and which are blends."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from attractors.distances.detection import TYPES
from attractors.states.fixed_points import merge
from attractors.states.mixtures import KINDS, blend_kinds
from attractors.states.repetition import coverage, rarefaction, repetition_chance

PARTS = 16  # points of a rarefaction curve


def rows_of(images: np.ndarray) -> np.ndarray:
    """Return images: [n, ...] as rows of numbers: [n, P] float64."""
    return np.asarray(images, np.float64).reshape(len(images), int(np.prod(images.shape[1:])))


def ends_table(
    arrays: dict[str, np.ndarray], starts: np.ndarray, codes: np.ndarray, s: np.ndarray, delta: float
) -> pd.DataFrame:
    """Return, for each type, which shares of its samples stay, end at training images, and still move.

    arrays: of data/census. starts: [n, C, H, W], the samples, and codes: [n] their types. s: [K, C, H, W]. A sample
    stays where its end lies within delta of it, and ends at training where its end lies within delta of one.
    """
    ends = rows_of(arrays["ends"])
    stayed = np.linalg.norm(ends - rows_of(starts), axis=1) <= delta
    at_training = cdist(ends, rows_of(s)).min(1) <= delta
    return pd.DataFrame([
        {"type": kind, "n": int(own.sum()), "stayed": stayed[own].mean(), "at_training": at_training[own].mean(),
         "moving": arrays["moving"][own].mean()}
        for code, kind in enumerate(TYPES) if (own := codes == code).any()
    ])


def states_row(arrays: dict[str, np.ndarray], s: np.ndarray, delta: float, limit: int) -> dict[str, Any]:
    """Return how many states a census found, how many of the `limit` most frequent are of each of KINDS, the starts
    that end there, and how many of them are stable. s: [K, C, H, W]."""
    mass, kinds = arrays["mass"], blend_kinds(arrays["states"][:limit], s, delta)
    values, returns = arrays["eigenvalues"], arrays["returns"]
    row = {"starts": len(arrays["ends"]), "moving": int(arrays["moving"].sum()), "states": len(mass)}
    for code, kind in enumerate(KINDS):
        own = kinds == code
        row |= {f"states_{kind}": int(own.sum()), f"starts_{kind}": int(mass[:limit][own].sum())}
    new = kinds[: len(values)] > 0
    return row | {
        "probed_new": int(new.sum()), "stable_new": int((values[new] < 1).sum()),
        "returns_training": returns[~new].mean() if (~new).any() else np.nan,
        "returns_new": returns[new].mean() if new.any() else np.nan,
    }


def repetition_tables(samples: np.ndarray, codes: np.ndarray, delta: float) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return (how often the samples that are not memorized repeat each other, the curve of states by samples drawn).

    samples: [n, C, H, W], codes: [n] their types. `spurious_quarter` is the spurious fraction in the first quarter of
    the samples. A state is a group of samples that all lie within delta of each other. `exponent` is that with which
    the number of states grows in the last doubling of samples: 0 where all states were seen, 1 for a continuum.
    """
    x, new = rows_of(samples), codes != 0
    first = max(2, len(x) // 4)
    square = cdist(x[:first], x[:first])
    np.fill_diagonal(square, np.inf)
    chance, error = repetition_chance(x[new], delta)
    row: dict[str, Any] = {
        "n": len(x), "new": int(new.sum()), "spurious": (codes == 1).mean(),
        "spurious_quarter": ((square.min(1) <= delta) & new[:first]).mean(), "C_2": chance, "C_2_error": error,
    }
    if new.sum() < 2:
        return row | dict.fromkeys(("states", "exponent", "coverage"), np.nan), pd.DataFrame()
    counts = np.bincount(merge(x[new], delta, "complete"))
    drawn = np.unique(np.append(np.geomspace(1, counts.sum(), PARTS).round(), counts.sum() // 2)).astype(int)
    curve = pd.DataFrame({"drawn": drawn, "states": rarefaction(counts, drawn)})
    half = float(curve.states[curve.drawn == counts.sum() // 2].iloc[0])
    exponent = np.log(len(counts) / half) / np.log(counts.sum() / (counts.sum() // 2))
    return row | {"states": len(counts), "exponent": exponent, "coverage": coverage(counts)}, curve


def blends_table(
    samples: np.ndarray, codes: np.ndarray, images: np.ndarray, size: int, delta: float, limit: int
) -> pd.DataFrame:
    """Return which shares of the first `limit` samples of each type are of each of KINDS.

    samples: [n, C, H, W], codes: [n]. images: [m, C, H, W] in subset order: S is the first `size`, and the images after
    it are the type `held_out`. `against` is S, or the next `size` images, which no sample was learned from: what they
    give is chance.
    """
    groups = {kind: samples[codes == code][:limit] for code, kind in enumerate(TYPES)}
    groups["held_out"] = images[size : size + limit]
    sets = {"S": images[:size]}
    if len(images) >= 2 * size:
        sets["others"] = images[size : 2 * size]
    rows = []
    for against, s in sets.items():
        for kind, part in groups.items():
            if len(part) and (against, kind) != ("others", "held_out"):
                shares = np.bincount(blend_kinds(part, s, delta), minlength=len(KINDS)) / len(part)
                rows.append({"against": against, "type": kind, "n": len(part), **dict(zip(KINDS, shares, strict=True))})
    return pd.DataFrame(rows)
