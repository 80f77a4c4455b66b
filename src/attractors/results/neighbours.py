"""The distances of the samples of whole runs, as the stage `neighbours` wrote them."""

from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attractors.arrays import read_arrays, read_record
from attractors.data.subsets import replicates, sizes
from attractors.distances.detection import DISTANCES
from attractors.distances.thresholds import copy_bound
from attractors.yardsticks.ratio import distance_ratio, is_memorized


class Distances(NamedTuple):
    """The distances of one run, or of all replicates of one K in the order of their numbers."""

    size: int  # K
    to_training: np.ndarray  # [N'], of each sample to S
    within: np.ndarray  # [N'], and to the nearest other sample of the same replicate
    spacing: np.ndarray  # of each training image to the nearest other one
    replicate: np.ndarray  # [N'] int16, the number of each sample's replicate
    copied: np.ndarray  # [N'] int8: whether d1 / d2 < 1/3, or -1 where only one neighbour is known

    @property
    def bound(self) -> float:
        """The largest distance of a copy, `copy_bound`."""
        return copy_bound(self.spacing)


def read_run(path: Path) -> Distances:
    """Return the content of one file of neighbours. Raises ValueError naming the file unless `neighbours` wrote it."""
    names = ["training_distances", "synthetic_distances", "training_spacing"]
    names += ["training_second"] * bool(read_record(path).get("twins"))
    arrays, record = read_arrays(path, *names)
    seconds = arrays.pop("training_second", None)  # to the nearest image that is no twin of the first
    to_training, within, spacing = arrays.values()
    replicate = record.get("replicate", 0)
    if (
        record.get("distance") not in list(DISTANCES)
        or type(record.get("size")) is not int
        or type(replicate) is not int
        or not 0 <= replicate < 1000
        or [array.ndim for array in arrays.values()] != [2, 2, 1]
        or len(to_training) != len(within)
        or any(0 in array.shape or not array.min() >= 0 for array in arrays.values())
        or (seconds is not None and seconds.shape != to_training.shape[:1])
    ):
        raise ValueError(f"{path}: not neighbours as neighbours.py writes them")
    if not (np.isfinite(to_training[:, 0]).all() and np.isfinite(within[:, 0]).all()):
        raise ValueError(f"{path}: distances that are not finite; S' needs at least two samples")
    owner = np.full(len(within), replicate, np.int16)
    copied = np.full(len(within), -1, np.int8)
    pair = to_training if seconds is None else np.stack([to_training[:, 0], seconds], 1)
    if pair.shape[1] > 1 and np.isfinite(pair[:, 1]).all():  # LPIPS is the square of a distance
        metric = pair if DISTANCES[record["distance"]] is None else np.sqrt(pair)
        copied = is_memorized(distance_ratio(metric)).astype(np.int8)
    return Distances(record["size"], to_training[:, 0], within[:, 0], spacing, owner, copied)


def find_runs(given: tuple[Path, ...], sweep: dict[str, Any] | None) -> list[Distances]:
    """Return the runs, by K, in the files of neighbours named on the command line or in folders named there.

    Replicates of one K are joined. With a sweep, runs are those of its sizes and replicates, in files named K and, for
    replicate R from 1, K-R. Raises ValueError where some are missing, or two are of the same K and replicate.
    """
    paths = [path for entry in given for path in (sorted(entry.glob("*.safetensors")) if entry.is_dir() else [entry])]
    if sweep:
        models = replicates(sweep.get("replicates"), sizes(sweep.get("sizes")))
        wanted = [f"{size}-{number}" if number else f"{size}" for size in models for number in range(models[size])]
        paths = [path for path in paths if path.stem in wanted]
        present = {path.stem for path in paths}
        if missing := [name for name in wanted if name not in present]:
            raise ValueError(f"{given[0]}: no neighbours for K = {', '.join(missing)}")
    if not paths:
        raise ValueError(f"{given[0]}: holds no neighbours (K.safetensors)")
    by_model: dict[tuple[int, int], tuple[Distances, Path]] = {}
    for path in paths:
        run = read_run(path)
        key = run.size, int(run.replicate[0])
        if key in by_model:
            raise ValueError(
                f"{by_model[key][1]} and {path}: both of K = {key[0]}; classify them apart, each by its --name, or, if "
                "they are replicates, give neighbours a --replicate"
            )
        by_model[key] = run, path
    runs = (by_model[key][0] for key in sorted(by_model))
    return [
        Distances(size, *map(np.concatenate, list(zip(*group, strict=True))[1:]))
        for size, group in groupby(runs, key=lambda run: run.size)
    ]
