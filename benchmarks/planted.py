"""Tables of a sweep whose truth is known, for tests of the claims and for the simulation of their intervals."""

from pathlib import Path

import numpy as np
import pandas as pd

from attractors.arrays import write_arrays
from attractors.distances.detection import TYPES
from attractors.results.run import Run
from attractors.tables import write_csv

SIZES = (4, 16, 32, 64, 128, 512)
TRANSITION = ((1, 0, 0), (0.85, 0.13, 0.02), (0.6, 0.3, 0.1), (0.3, 0.4, 0.3), (0.03, 0.07, 0.9), (0, 0, 1))
PAPER = {"shares": TRANSITION, "volume": (60, 0, -60), "training": -10, "directions": (6, 4, 0), "median": -1,
         "gap": (0, -1, 3), "growth": (0.2, -0.2), "valleys": 1.0, "floor": -30, "linear": -40, "beyond": 8,
         "stayed": 0.9, "exponent": 0.1, "blends": (0.9, 0.1)}
NOTHING = {"shares": [(0.3, 0.2, 0.5)] * 6, "volume": (0, 0, 0), "training": 0, "directions": (0, 0, 0), "median": 0,
           "gap": (0, 0, 0), "growth": (0, 0), "valleys": 0.05, "floor": 0, "linear": 0, "beyond": 0,
           "stayed": 0.5, "exponent": 0.5, "blends": (0.5, 0.5)}
DESIGNS = {  # how replicates differ: (at each K anew, at all K alike, whether more at some K)
    "not at all": (0, 0, False), "at each K": (1, 0, False), "alike at all K": (0, 1, False),
    "more at some K": (1, 0, True), "both ways": (0.7, 0.7, False),
}


def offsets(design: str, models: int, random: np.random.Generator) -> np.ndarray:
    """Return by how many deviations each replicate lies off at each K: [R, sizes]."""
    anew, alike, unequal = DESIGNS[design]
    spread = np.geomspace(0.2, 2, len(SIZES)) if unequal else 1
    each, all_of_it = random.normal(size=(models, len(SIZES))), random.normal(size=(models, 1))
    return anew * spread * each + alike * all_of_it


def run_of(folder: Path, *, models: int = 5, seed: int = 0, design: str = "both ways", spread: float = 0.03,
           count: int = 1000, **planted) -> Run:
    """Write the tables of a sweep `x` about which every statement is true but for what is planted; return its Run.

    design, spread: how replicates differ and by how much, as a share of 12 nats of log-volume, 2 directions and an
    e-fold of K. volume, directions, gap: means of memorized, spurious and generalized samples. training, median: slopes
    per doubling of K. growth: those of the gap of memorized and generalized samples. valleys: the chance of a valley
    at a size. stayed: the share of spurious samples that stay. exponent: of states against samples. blends: the shares
    of spurious samples near blends of S and of other images.
    """
    truth, random = PAPER | planted, np.random.default_rng(seed)
    rows: dict[str, list] = {"fractions": [], "basin": [], "curvature": [], "energy": []}
    off, logs = spread * offsets(design, models, random), np.log(SIZES)
    for number in range(models):
        for i, size in enumerate(SIZES):
            u = logs[i] + off[number, i]
            share = np.array([np.interp(u, logs, column) for column in np.transpose(truth["shares"])])
            drawn = random.multinomial(count, share / share.sum()) / count
            key, steps = {"K": size, "replicate": number}, np.log2(size / 32)
            rows["fractions"].append(key | {"count": count} | dict(zip(TYPES, drawn, strict=True)))
            for code, kind in enumerate((*TYPES, "training")):
                if kind != "training" and truth["shares"][i][code] < 0.02:
                    continue
                key |= {"type": kind, "n": 50}
                noise = off[number, i] + spread * random.normal(0, 0.3)
                volume = 60 + truth["training"] * steps if kind == "training" else truth["volume"][code]
                rows["basin"].append(key | {"log_volume": volume + 12 * noise, "log_volume_floor": truth["floor"]})
                directions = truth["directions"][code] if kind in TYPES else 0
                median = 50 + truth["median"] * steps + noise
                for method, column, sign in (("jacobian", "degrees_of_freedom", -1), ("central", "effective_rank", 1)):
                    rows["curvature"].append(key | {"method": method, column: sign * directions + 2 * noise,
                                                    "median": median})
                growth = truth["growth"][code // 2] if kind in TYPES else 0
                gap = (truth["gap"][code] if kind in TYPES else 0) + growth * steps + noise
                rows["energy"].append(key | {"gap": gap, "reference": 1})
    for table, part in rows.items():
        write_csv(folder / f"metrics/replicates/{table}/x.csv", pd.DataFrame(part))
    fractions = pd.DataFrame(rows["fractions"]).groupby("K", as_index=False)[list(TYPES)]
    write_csv(folder / "metrics/fractions/x.csv", fractions.mean())
    p = np.where(random.random((2, len(SIZES))) < truth["valleys"], 0.002, 0.5)
    limits = {"K": SIZES, "delta_m": 0.3, "delta_s": 0.2}
    limits |= {"delta_m_valley_p_value": p[0], "delta_s_valley_p_value": p[1]}
    write_csv(folder / "metrics/thresholds/x.csv", pd.DataFrame(limits))
    linear = [{"K": size, "type": "generalized", "log_volume": truth["linear"], "log_volume_se": 0.1} for size in SIZES]
    write_csv(folder / "metrics/basin/x-linear.csv", pd.DataFrame(linear))
    for size in SIZES[1:-1]:
        volumes_at(folder, size, truth["beyond"] + 12 * off[:, SIZES.index(size)], random)
    keys = [{"K": K, "replicate": number, "off": off[number, i]}
            for i, K in enumerate(SIZES) for number in range(models)]
    against = (("S", truth["blends"][0], 1), ("others", truth["blends"][1], 0))
    of_states = {
        "ends": [key | {"type": "spurious", "stayed": truth["stayed"] + key["off"]} for key in keys],
        "repetition": [key | {"exponent": truth["exponent"] + key["off"]} for key in keys],
        "blends": [key | {"type": "spurious", "against": of, "two": 0.7 * value + sign * key["off"],
                          "three": 0.3 * value} for key in keys for of, value, sign in against],
    }
    for table, part in of_states.items():
        write_csv(folder / f"metrics/{table}/x.csv", pd.DataFrame(part).drop(columns="off"))
    return Run(folder / "metrics", data=folder / "data")


def volumes_at(folder: Path, size: int, beyond: np.ndarray, random: np.random.Generator) -> None:
    """Write files of 200 measured samples of each replicate at K, memorized ones `beyond`: [R] above a curve of ln d1.
    """
    types = []
    for number, above in enumerate(beyond):
        distance = np.exp(random.uniform(-3, 1, (200, 1))).astype(np.float32)
        kind = (distance[:, 0] > 0.3).astype(np.int8)
        near = np.log(distance[:, 0])
        volume = 3 * near - 2 * near**2 + above * (kind == 0) + random.normal(0, 1, 200)
        name = f"{size}-{number}" if number else f"{size}"
        neighbours = {
            "training_distances": distance, "synthetic_distances": np.where(kind, 0.1, 9).astype(np.float32)[:, None],
            "synthetic_indices": random.integers(0, 200, (200, 1)), "training_spacing": np.ones(4, np.float32),
        }
        write_arrays(folder / f"data/neighbours/x/{name}.safetensors", neighbours, size=size, replicate=number)
        basin = {"numbers": np.arange(200), "weight": np.ones(200), "training_numbers": np.arange(3),
                 "log_volume": volume}
        write_arrays(folder / f"data/basin/x/{name}.safetensors", basin, size=size)
        types.append(kind)
    owner = np.repeat(np.arange(len(beyond), dtype=np.int16), 200)
    arrays = {"codes": np.concatenate(types), "replicate": owner}
    write_arrays(folder / f"data/types/x/{size}.safetensors", arrays, size=size)
