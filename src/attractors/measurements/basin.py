"""Basins of attraction: settings of the search, critical times and volumes by type, and what the paper says of them."""

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from attractors.landscape.summaries import log_volume
from attractors.measurements.registry import Quantity
from attractors.results.claims import Claim, common, contrast, over_replicates, peak_of, slope, span
from attractors.results.joined import Arrays, Kind, columns, estimate
from attractors.results.run import Run
from attractors.settings.patterns import Patterns
from attractors.settings.section import Section


class Search(Section):
    """The search for critical times (Alg. 1)."""

    trials: int = Field(20, ge=1, description="M, perturbations of each pattern at each time.")
    steps: int = Field(10, ge=1, description="N', DDIM steps of each recovery.")
    stride: int = Field(10, ge=1, description="s, between the times that are tried.")
    delta_p: float = Field(0.8, ge=0, le=1, description="Stop where a smaller share is recovered.")
    delta_d: float = Field(ge=0, description="Recovered at or below this distance.")
    batch: int = Field(1000, ge=1, description="Network evaluations at a time.")


class Basin(Patterns):
    """Which patterns are searched for, and by which distance they count as recovered."""

    training_limit: int = Field(512, ge=1, description="Training images.")
    distance: Literal["l2", "lpips_vgg"] = Field("lpips_vgg", description="L2 of pixels in [-1, 1], or LPIPS.")


def basin_table(size: int, arrays: Arrays, record: dict, kinds: list[Kind]) -> pd.DataFrame:
    """Return one row for each type: t_c (Alg. 1), log_volume (Eq. 34), and the share of trials that were not recovered.

    arrays, record: of data/basin/SWEEP/K.safetensors. A sample's t_c is the mean over its trials, where a trial that
    was not recovered counts as 0. Its log-volume is the mean over its recovered trials, and samples without any are
    left out of the mean.
    """
    rows = []
    for kind in kinds:
        t_c = arrays[f"{kind.prefix}t_c"][kind.rows]
        logs = arrays[f"{kind.prefix}log_volume"][kind.rows].astype(np.float64)
        rows.append({
            "K": size, **kind.counts, **columns("t_c", t_c.mean(1), kind), **columns("log_volume", logs, kind),
            "unrecovered": float(estimate((t_c == 0).mean(1), kind.weights)[0]),
        })
    table = pd.DataFrame(rows)
    if record.get("distance") == "l2":  # the ball of a pattern that comes back only from within delta_d
        table["log_volume_floor"] = float(log_volume(record["delta_d"], math.prod(record["image_shape"])))
    return table


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


QUANTITY = Quantity({"settings": Basin, "search": Search}, {"basin": (basin_table, ["type"])}, of_basins)
