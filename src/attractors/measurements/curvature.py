"""Spectra of the score: settings, summaries and mean spectra by type, and what the paper says of them."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from attractors.distances.detection import TYPES
from attractors.landscape.summaries import degrees_of_freedom, effective_rank, spectral_gap
from attractors.measurements.registry import Quantity
from attractors.results.claims import Claim, contrast, over_replicates, peak_of, slope, span
from attractors.results.joined import Arrays, Kind, columns
from attractors.results.run import Run
from attractors.settings.patterns import Patterns

RANKS = 512  # ranks of a mean spectrum in a table, evenly spaced where there are more
METHODS = ("central", "one_sided", "jacobian")


class Curvature(Patterns):
    """Where the score's singular values are measured, and by which methods (Algs. 2 and 3)."""

    methods: tuple[Literal["central", "one_sided", "jacobian"], ...] = Field(
        ("central",), description="Alg. 2, Alg. 3, or the Jacobian without noise, which is not in the paper."
    )
    t0: int = Field(2, ge=0, description="The time of the score, 0-based.")
    batch: int = Field(1024, ge=1, description="Network evaluations at a time.")


def spectra_of(arrays: Arrays, kinds: list[Kind]) -> Iterator[tuple[Kind, str, np.ndarray]]:
    """Yield (kind, method, spectra: [n, N], descending) of each type by each method that was measured."""
    for kind in kinds:
        for method in METHODS:
            if (name := f"{kind.prefix}{method}") in arrays:
                yield kind, method, arrays[name][kind.rows]


def curvature_table(size: int, arrays: Arrays, record: dict, kinds: list[Kind]) -> pd.DataFrame:
    """Return one row for each type and method: summaries of the spectrum of each sample (Algs. 2 and 3, the Jacobian).

    arrays, record: of data/curvature/SWEEP/K.safetensors.
    """
    rows = []
    for kind, method, values in spectra_of(arrays, kinds):
        dimension, gap = spectral_gap(values)
        summaries = {
            "largest": values[:, 0], "median": np.median(values, 1), "smallest": values[:, -1],
            "effective_rank": effective_rank(values), "dimension": dimension, "gap": gap,
        }
        if method == "jacobian":
            trace = arrays[f"{kind.prefix}jacobian_trace"][kind.rows]
            summaries["degrees_of_freedom"] = degrees_of_freedom(trace, record["sigma"], values.shape[1])
        row = {"K": size, **kind.counts, "method": method, "t0": record["t0"], "sigma": record["sigma"]}
        for name, summary in summaries.items():
            row |= columns(name, summary.astype(np.float64), kind)
        rows.append(row)
    return pd.DataFrame(rows)


def spectra_table(size: int, arrays: Arrays, record: dict, kinds: list[Kind]) -> pd.DataFrame:
    """Return the mean spectrum of each type by each method (Figs. 5A and 20-23), at most RANKS ranks.

    arrays: of data/curvature/SWEEP/K.safetensors.
    """
    parts = []
    for kind, method, values in spectra_of(arrays, kinds):
        dimensions = values.shape[1]
        ranks = np.unique(np.linspace(1, dimensions, min(RANKS, dimensions)).round().astype(int))
        means = columns("mean", values[:, ranks - 1], kind)
        parts.append(pd.DataFrame({"K": size, **kind.counts, "method": method, "rank": ranks, **means}))
    return pd.concat(parts, ignore_index=True)


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


QUANTITY = Quantity(
    {"settings": Curvature},
    {"curvature": (curvature_table, ["type", "method"]), "spectra": (spectra_table, ["type", "method"])}, of_spectra,
)
