"""Choose the samples of S' to measure by their distances alone, so that no threshold changes what is measured.

The samples are chosen in three groups: those nearest to S, those that repeat each other rather than an image of S, and
a uniform draw from all of S'. The types of Eqs. 9-11 are joined with the measurements afterwards.
"""

from typing import NamedTuple

import numpy as np

from attractors.randomness import SELECTION, generator

GROUPS = ("nearest", "repeating", "uniform")


class Selection(NamedTuple):
    """The n samples of S' to measure, in measuring order, with the groups to which each belongs and its weight."""

    numbers: np.ndarray  # [n] int64, positions in S'
    nearest: np.ndarray  # [n] bool
    repeating: np.ndarray  # [n] bool
    uniform: np.ndarray  # [n] bool
    weight: np.ndarray  # [n] float64: how many samples of S' each stands for; they sum to N'


def rankings(
    to_training: np.ndarray, within: np.ndarray, seed: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order in which each of the three groups takes its members from S': three permutations, [N'] int64.

    to_training, within: [N'] distances >= 0 of each sample to its nearest image of S, and to its nearest other sample.
    `nearest` orders by the distance to S, ascending. `repeating` orders by within - to_training, ascending: for a
    sample that another one repeats, near to that one and far from S, this difference is large and negative; for copies
    of images of S, and for samples far from everything, it is about 0. `uniform` is a random permutation of the stream
    (`seed`, SELECTION, `size`). Ties are taken in the order of the samples' numbers.
    """
    return (
        np.argsort(to_training, kind="stable"), np.argsort(np.asarray(within, np.float64) - to_training, kind="stable"),
        generator(seed, SELECTION, size).permutation(len(to_training)),
    )


def interleave(members: list[np.ndarray]) -> np.ndarray:
    """Merge lists of numbers: the first of every list in turn, then the second of every list, and so on, each once.

    members: lists of integers. For every r, the lists cut to their first r elements give the first part of the result.
    """
    lengths = [len(group) for group in members]
    turn = np.concatenate([np.arange(length) for length in lengths])
    group = np.repeat(np.arange(len(members)), lengths)
    numbers = np.concatenate(members).astype(np.int64)[np.lexsort((group, turn))]
    _, first = np.unique(numbers, return_index=True)
    return numbers[np.sort(first)]


def weights(members: list[np.ndarray], numbers: np.ndarray, count: int) -> np.ndarray:
    """Return how many of the `count` samples of S' each of `numbers`: [n] represents (Horvitz and Thompson): [n]
    float64.

    members are the groups nearest, repeating and uniform. Samples of the first two groups are measured with certainty
    and have weight 1. A sample that belongs to the uniform group alone was drawn from all samples outside the first two
    groups, each with the same probability; its weight is the number of those samples divided by the number of them that
    were drawn. A weighted mean is Hajek's estimate of the mean over S', or over any part of it.
    """
    targeted = np.isin(numbers, np.concatenate(members[:2]))
    outside, drawn = count - targeted.sum(), (~targeted).sum()
    return np.where(targeted, 1.0, outside / max(drawn, 1))


def members_of(
    to_training: np.ndarray, within: np.ndarray, nearest: int, repeating: int, uniform: int, seed: int, size: int
) -> dict[str, np.ndarray]:
    """Return the numbers of the samples in each of the three GROUPS, in the order of `rankings`.

    The arguments and errors are those of `select`.
    """
    to_training, within = np.asarray(to_training), np.asarray(within)
    if to_training.ndim != 1 or to_training.shape != within.shape or not len(within):
        raise ValueError(f"distances of shapes {to_training.shape} and {within.shape}; both must be [N']")
    if not (np.isfinite(to_training).all() and np.isfinite(within).all() and min(to_training.min(), within.min()) >= 0):
        raise ValueError("distances that are negative or not finite; S' needs at least two samples")
    limits = (nearest, repeating, uniform)
    if min(limits) < 0:
        raise ValueError(f"nearest, repeating and uniform are {limits}; none may be negative")
    ranked = rankings(to_training, within, seed, size)
    return {name: ranking[:limit] for name, ranking, limit in zip(GROUPS, ranked, limits, strict=True)}


def select(
    to_training: np.ndarray, within: np.ndarray, nearest: int, repeating: int, uniform: int, seed: int, size: int
) -> Selection:
    """Return the samples of S' to measure, in the order in which they are measured.

    to_training, within: [N'] as of `rankings`. nearest, repeating, uniform: how many samples each group has, at most
    N'; a sample may belong to several groups. size: K, which gives each run of a sweep its own random stream. The order
    interleaves the groups, so that a measurement that stops early has members of all of them, and smaller groups select
    the first part of it. Where all of S' is selected, every weight is 1. Raises ValueError for distances of different
    lengths or below 0, for no distances, and for a negative number.
    """
    members = list(members_of(to_training, within, nearest, repeating, uniform, seed, size).values())
    numbers = interleave(members)
    in_nearest, in_repeating, in_uniform = (np.isin(numbers, group) for group in members)
    return Selection(numbers, in_nearest, in_repeating, in_uniform, weights(members, numbers, len(within)))
