"""The measurements of an audit: what lies near what, under which thresholds, and how sure the fractions are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attractors.distances.detection import TYPES, classify, wilson
from attractors.distances.thresholds import Threshold, choose, copy_bound, find_valley
from attractors.distances.twins import TWINS, one_each, originals, spacing_of
from attractors.randomness import BOOTSTRAP, generator

NEIGHBOURS = 5  # of each sample in S': links of the groups; each image of S has TWINS + 1 or more
PER_DECADE = 40
STEPS = np.arange(-PER_DECADE, PER_DECADE + 1)  # of the sliders: a decade on either side of a threshold


@dataclass(frozen=True)
class Neighbours:
    """What lies nearest to each of n images of one set. Distances are [n, k] float32, numbers [n, k] int64."""

    to_training: np.ndarray  # to the nearest image of S, and to the next one that is no twin of it
    training: np.ndarray
    within: np.ndarray  # to the nearest others of the same set
    others: np.ndarray


@dataclass(frozen=True)
class Share:
    """A share of a number of images, with its 95% interval (Wilson) for images drawn independently."""

    share: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        from attractors.report.words import percent

        return f"{percent(self.share)} ({percent(self.low)} to {percent(self.high)})"


@dataclass(frozen=True)
class Measurement:
    """The measurements of an audit; `auditing.audit.Audit` has the images beside them.

    spacing, twins: distance and number of the nearest other images of each image of S, [m, k]. held_out: [h] distances
    of real images outside S to S, or None. against: the neighbours of another set of samples, or None.
    """

    samples: Neighbours
    spacing: np.ndarray
    twins: np.ndarray
    delta_m: Threshold
    delta_s: Threshold
    held_out: np.ndarray | None = None
    against: Neighbours | None = None
    codes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", self.types(self.samples))

    def types(self, neighbours: Neighbours) -> np.ndarray:
        """Return the types of samples (Eqs. 9-11) under the thresholds of this audit: [n], codes into TYPES."""
        to_training, within = neighbours.to_training[:, 0], neighbours.within[:, 0]
        return classify(to_training, within, self.delta_m.value, self.delta_s.value)

    def shares(self, others: Neighbours | None = None) -> dict[str, Share]:
        """Return the share of each type among the samples, or among others whose neighbours are given."""
        codes = self.codes if others is None else self.types(others)
        return {kind: share_of(codes == code) for code, kind in enumerate(TYPES)}

    @property
    def real_distances(self) -> np.ndarray:
        """The yardstick of chance: distances to S of held-out images, or else of each image of S to another one."""
        return self.spacing[:, 0] if self.held_out is None else self.held_out

    @property
    def chance(self) -> Share:
        """The share of real images that lie as near to S as memorized samples do."""
        return share_of(self.real_distances <= self.delta_m.value)

    def difference(self) -> dict[str, dict[str, float]]:
        """Return by how much each share of `against` exceeds that of the samples, with Newcombe's 95% interval.

        p is that of Fisher's exact test, times three for the three types.
        """
        from scipy.stats import fisher_exact

        assert self.against is not None
        rows = {}
        for (kind, a), b in zip(self.shares().items(), self.shares(self.against).values(), strict=True):
            change = b.share - a.share
            table = [[round(part.share * part.count), part.count - round(part.share * part.count)] for part in (a, b)]
            low = change - np.hypot(b.share - b.low, a.high - a.share)
            high = change + np.hypot(b.high - b.share, a.share - a.low)
            p = min(1.0, 3 * float(fisher_exact(table).pvalue))
            rows[kind] = {"difference": change, "low": float(low), "high": float(high), "p": p}
        return rows

    def repeated_samples(self) -> list[np.ndarray]:
        """Return the groups of samples that repeat each other: linked within delta_s, largest first."""
        return groups(self.samples.within, self.samples.others, self.delta_s.value)

    def repeated_training(self) -> list[np.ndarray]:
        """Return the groups of near-duplicates within S: linked within delta_m, largest first."""
        return groups(self.spacing, self.twins, self.delta_m.value)

    def cells(self) -> np.ndarray:
        """Count samples by the first step of each slider that is at least their distance: [steps + 1, steps + 1].

        A sample is in row i or above exactly where `classify` would call it memorized under the i-th delta_m.
        """
        edges = [steps_of(threshold.value).astype(np.float32) for threshold in (self.delta_m, self.delta_s)]
        row = np.searchsorted(edges[0], self.samples.to_training[:, 0])
        column = np.searchsorted(edges[1], self.samples.within[:, 0])
        size = len(STEPS) + 1
        return np.bincount(row * size + column, minlength=size**2).reshape(size, size)


def steps_of(threshold: float) -> np.ndarray:
    """Return the thresholds of a slider: [len(STEPS)], ascending, of which the middle one is `threshold`."""
    return threshold * 10.0 ** (STEPS / PER_DECADE)


def share_of(members: np.ndarray) -> Share:
    """Return the share of True in members: [n] bool, with its interval."""
    share = float(members.mean())
    low, high = wilson(np.asarray(share), len(members))
    return Share(share, float(low), float(high), len(members))


def groups(distances: np.ndarray, numbers: np.ndarray, limit: float) -> list[np.ndarray]:
    """Return the groups of two or more that links join, largest first, each as ascending numbers.

    distances, numbers: [n, k] of each one's nearest others. Two are linked where one is among the k nearest of the
    other, at most `limit` away. Members at the two ends of a chain of links may be farther apart.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(distances)
    row, rank = np.nonzero((distances <= limit) & (numbers >= 0))
    graph = coo_array((np.ones(len(row)), (row, numbers[row, rank])), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return sorted((part for part in parts if len(part) > 1), key=lambda part: (-len(part), part[0]))


def threshold(given: float | str, distances: np.ndarray, spacing: np.ndarray, stream: int) -> Threshold:
    """Return a threshold: the given number or, for `auto`, what `classify` chooses for one training set.

    distances: [n] those that it is for. spacing: [m] within S, from one image to the next that is no twin of it.
    stream: 0 for delta_m, 1 for delta_s. Raises ValueError for auto where S holds copies of one image alone.
    """
    bound = copy_bound(spacing)
    if not isinstance(given, str):
        return Threshold(float(given), "given", bound)
    if not 0 < bound < np.inf:
        raise ValueError("the training images are copies of one: no spacing gives a threshold; give --delta-m and "
                         "--delta-s")
    valley = find_valley(distances, bound, generator(3407, BOOTSTRAP, (stream << 32) | len(spacing)))
    return choose([valley], [bound])[0]


def measure(
    samples: Any, training: Any, held_out: Any = None, against: Any = None, *, squared: bool = False,
    delta_m: float | str = "auto", delta_s: float | str = "auto", device: Any = "cpu", memory: int = 512 * 2**20,
    progress: Callable[[list, str], Iterable] = lambda blocks, label: blocks,
) -> Measurement:
    """Measure an audit from features: [n, D], [m, D], [h, D] or None, and [a, D] or None, float32.

    squared: the distance is the squared Euclidean distance of features (LPIPS, cosine). Raises ValueError where
    lengths of features differ.
    """
    from attractors.distances.neighbours import nearest

    lengths = {features.shape[1] for features in (samples, training, held_out, against) if features is not None}
    if len(lengths) > 1:
        raise ValueError(f"features of lengths {' and '.join(map(str, sorted(lengths)))}: of different encoders?")

    def near(queries: Any, references: Any, k: int, label: str, alone: bool = False) -> tuple[np.ndarray, np.ndarray]:
        distances, numbers = nearest(queries, references, k, alone, memory, lambda blocks: progress(blocks, label),
                                     squared=squared, device=device)
        return distances.numpy(), numbers.numpy()

    spacing, twins = near(training, training, TWINS + 1, "training images among themselves", True)
    first = originals(np.sqrt(spacing) if squared else spacing, twins)
    if (largest := int(np.bincount(first).max()) - 1) > TWINS:
        spacing, twins = near(training, training, largest + 1, "training images among themselves", True)

    def neighbours(features: Any, name: str) -> Neighbours:
        distances, numbers = near(features, training, largest + 2, f"{name} in the training set")
        pair = one_each(distances, numbers, first, 2), numbers[:, :2]
        return Neighbours(*pair, *near(features, features, NEIGHBOURS, f"{name} among themselves", True))

    measured = neighbours(samples, "samples")
    real = None if held_out is None else near(held_out, training, 1, "held-out images")[0][:, 0]
    other = None if against is None else neighbours(against, "other samples")
    wanted, alone = ((delta_m, measured.to_training), (delta_s, measured.within)), spacing_of(spacing, twins, first)
    m, s = (threshold(given, table[:, 0], alone, i) for i, (given, table) in enumerate(wanted))
    return Measurement(measured, spacing, twins, m, s, held_out=real, against=other)
