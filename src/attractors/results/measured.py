"""Measurements of single samples: their log-volumes, critical times and energies, without any type."""

from typing import NamedTuple

import numpy as np

from attractors.results.joined import above_training
from attractors.results.run import Run

QUANTITIES = {"log_volume": "basin", "t_c": "basin", "energy": "energy"}  # and the folder of measurements of each


class Measured(NamedTuple):
    """One quantity of n samples of S'."""

    numbers: np.ndarray  # [n] int64, positions in S'
    weights: np.ndarray  # [n] float64, how many samples of S' each stands for
    uniform: np.ndarray  # [n] bool, members of the uniform draw
    values: np.ndarray  # [n] float64, nan where there is none


def measured_sizes(run: Run, name: str) -> list[int]:
    """Return the K of sweep `name` at which anything of QUANTITIES was measured, ascending."""
    return sorted({size for kind in QUANTITIES.values() for size in run.sizes_in(kind, name)})


def measured(run: Run, name: str, size: int) -> dict[str, Measured]:
    """Return the quantities of the measured samples of sweep `name` at K = `size`, with weights as in `results.joined`.

    t_c: critical times in steps (Alg. 1), the mean over trials. log_volume: of the basin (Eq. 34). energy: above the
    mean energy of training images, relative to the first reference (Eq. 48). Those without a file are left out.
    Raises ValueError naming the file where it is of another K or of samples that S' does not have.
    """
    parts = {}
    for quantity, folder in QUANTITIES.items():
        files = run.measurements(folder, name, size)
        if files is None:
            continue
        arrays, _ = files
        if quantity not in arrays:
            raise ValueError(f"{run.data / folder / name}: no {quantity} at K = {size}")
        values = arrays[quantity]
        if quantity == "t_c":
            values = values.mean(1)
        elif quantity == "energy":
            values = above_training(arrays)[:, 0]
        parts[quantity] = Measured(arrays["numbers"], arrays["weight"], arrays["uniform"], values.astype(np.float64))
    return parts
