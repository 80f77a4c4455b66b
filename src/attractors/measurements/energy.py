"""Relative energies: settings, energies and gaps by type, and what the paper says of them."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from pydantic import Field

from attractors.measurements.registry import Quantity
from attractors.results.claims import Claim, contrast, over_replicates, slope, span
from attractors.results.joined import Arrays, Kind, above_training, columns
from attractors.results.run import Run
from attractors.settings.patterns import Patterns


class Energy(Patterns):
    """The energies of patterns relative to reference images (Alg. 4)."""

    t0: int = Field(0, ge=0, description="The time of the energy, 0-based.")
    nodes: int = Field(20, ge=2, description="Points on the path from the target to a reference.")
    references: int = Field(4, ge=1, description="Reference images, drawn from the whole dataset.")
    batch: int = Field(1024, ge=1, description="Network evaluations at a time.")


def energy_table(size: int, arrays: Arrays, record: dict, kinds: list[Kind]) -> pd.DataFrame:
    """Return a row for each type and reference image: the energy u(sample) - u(reference) (Alg. 4) and its gap to S
    (Eq. 48).

    arrays, record: of data/energy/SWEEP/K.safetensors. The gap is the mean energy less that of the training images.
    """
    rows = []
    above = {"": above_training(arrays), "training_": above_training(arrays, "training_")}
    for kind in kinds:
        values = arrays[f"{kind.prefix}energy"][kind.rows].astype(np.float64)
        gaps = above[kind.prefix][kind.rows].astype(np.float64)
        for index, image in enumerate(arrays["references"]):
            summaries = columns("energy", values[:, index], kind) | columns("gap", gaps[:, index], kind)
            row = {"K": size, **kind.counts, "reference": index + 1, "image": int(image), "t0": record["t0"]}
            rows.append({**row, **summaries})
    return pd.DataFrame(rows)


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


QUANTITY = Quantity({"settings": Energy}, {"energy": (energy_table, ["type"])}, of_energies)
