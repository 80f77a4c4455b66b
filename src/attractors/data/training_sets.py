"""The training set of one replicate, from the orders of a dataset."""

from pathlib import Path

import numpy as np

from attractors.arrays import array_hash
from attractors.data.images import read_images


def training_path(folder: Path, dataset: str, replicate: int, size: int, expected: str | None) -> Path:
    """Return the order that begins with S of one replicate: DATASET-R of its own or else DATASET.

    expected: the hash of S in a file that was made from it, or None. Raises ValueError where no order has it.
    """
    paths = [folder / f"{dataset}-{replicate}.safetensors", folder / f"{dataset}.safetensors"]
    for path in (path for path in paths if path.is_file()):
        if expected is None or array_hash(read_images(path, size)) == expected:
            return path
    raise ValueError(f"{folder}: no order of {dataset} begins with the training set of replicate {replicate}")


def training_images(folder: Path, dataset: str, replicate: int, size: int, expected: str | None) -> np.ndarray:
    """Return S of one replicate: [K, C, H, W]. The arguments are those of `training_path`."""
    return read_images(training_path(folder, dataset, replicate, size, expected), size)
