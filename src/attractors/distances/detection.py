"""Memorized, spurious or generalized: the types of Eqs. 9-11, and intervals of their fractions."""

import numpy as np

TYPES = ("memorized", "spurious", "generalized")
DISTANCES = {"l2": None, "lpips_alex": "alex", "lpips_vgg": "vgg"}  # distances (B.2), and the network of each


def classify(
    distance_to_training: np.ndarray, distance_to_synthetic: np.ndarray, delta_m: float, delta_s: float,
    memorized: np.ndarray | None = None,
) -> np.ndarray:
    """Return the types of n samples by Eqs. 9-11, as codes into TYPES: [n] int8.

    distance_to_training and distance_to_synthetic: [n] are the distances to the nearest image of S and to the nearest
    other sample of S'. A sample is memorized if the first is at most delta_m, else spurious if the second is at most
    delta_s, and else generalized. memorized: [n] bool replaces Eq. 9 by another rule. Raises ValueError for a distance
    that is NaN.
    """
    if (unknown := np.isnan(distance_to_training) | np.isnan(distance_to_synthetic)).any():
        raise ValueError(f"a distance of sample {int(unknown.argmax())} is NaN")
    if memorized is None:
        memorized = distance_to_training <= delta_m  # Eq. 9
    spurious = (distance_to_synthetic <= delta_s) & ~memorized  # Eq. 10
    return np.where(memorized, 0, np.where(spurious, 1, 2)).astype(np.int8)  # Eq. 11


def fractions(codes: np.ndarray) -> np.ndarray:
    """Return the share of each of TYPES among codes: [3]."""
    return np.bincount(codes, minlength=len(TYPES)) / len(codes)


def wilson(share: np.ndarray, count: float, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's interval of a share of `count` independent draws, as (low, high); z = 1.96 makes it 95%.

    For draws that are not independent, count is the number of independent draws that have the same variance. It need
    not be whole.
    """
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)


def selection(
    codes: np.ndarray, to_training: np.ndarray, within: np.ndarray, limit: int = 512, rare: float = 0.001
) -> dict[str, np.ndarray]:
    """C.2: up to `limit` samples of each type, nearest first by the distance that its metric thresholds.

    codes: [N'] into TYPES. to_training, within: [N'] distances to the nearest image of S and to the nearest other
    sample. Memorized and generalized samples are sorted by their distance to S, spurious ones by that within S'.
    Returns {type: numbers of samples, int64} without the types that are less than a share `rare` of S'.
    """
    chosen = {}
    for code, name in enumerate(TYPES):
        members = np.flatnonzero(codes == code)
        if len(members) and len(members) >= rare * len(codes):
            distance = (within if name == "spurious" else to_training)[members]
            chosen[name] = members[np.argsort(distance, kind="stable")[:limit]]
    return chosen
