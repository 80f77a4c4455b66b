"""Choose delta_m and delta_s from valleys of log-distance histograms, bounded by the distances of real images.

The paper picks both by eye, for each K, between the two peaks of each histogram (B.3). Here a valley counts only where
resampling confirms two peaks, and only between a peak of copies and a peak of distances too large for copies.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from attractors.words import suggestion

BINS_PER_DECADE = 100
RESAMPLES = 500
SIGNIFICANT = 0.01  # with a dozen sizes tested, one in twenty would be one by chance
DEEP = 0.5  # of the lower peak: shallower valleys lie elsewhere with other seeds, by factors of two and three
PRECISE = 2  # the upper end of the valley's interval over the lower: wider ones lie anywhere between two far peaks
PILE = 1e-3  # distances below this fraction of the copy bound are one pile: their logarithm is rounding noise


@dataclass(frozen=True)
class Valley:
    """The valley of a histogram of log-distances that separates copies from the rest."""

    position: float  # the distance at its lowest point
    low: float  # 95% bootstrap interval of the position
    high: float
    depth: float  # density there, over that of the lower of the two peaks
    p_value: float  # share of resamples of the same density with the valley filled that are at least as deep


@dataclass(frozen=True)
class Threshold:
    """A threshold, and the reason for its value."""

    value: float
    source: str  # given, valley, spacing, or ratio
    bound: float
    valley: Valley | None = None


AUTO, DEFAULT = "auto", "default"
RATIO = "ratio"  # of delta_m: memorized where d1 / d2 < 1/3, as in `yardsticks.ratio`


def given_thresholds(
    setting: object, name: str, sweep: str, sizes: Sequence[int], sweeps: Collection[str] = ()
) -> list[float | str | None]:
    """Return the threshold that a setting gives for each K of a sweep, or None for each K where it is automatic.

    setting is one of these, or a mapping from names of sweeps to one of these or to a mapping from K to one of these: a
    distance >= 0, `auto`, or (for delta_m) `ratio`, which is returned as it is. `default` in a mapping stands for
    everything that the mapping does not name, and is `auto` where it is missing. name is the setting's name in
    messages, and sizes are the sweep's K. sweeps are the names that a mapping may contain besides `sweep`; without any,
    every name is allowed. Raises ValueError for anything else, naming the entry: "delta_m.digits.64 is -1; ...".
    """
    rules = [AUTO, RATIO] if name == "delta_m" else [AUTO]

    def value(entry: object, where: str) -> float | str | None:
        if isinstance(entry, str) and entry in rules:
            return None if entry == AUTO else entry
        if isinstance(entry, bool) or not isinstance(entry, Real) or not 0 <= float(entry) < np.inf:
            kinds = ", ".join(["a distance of at least 0", *rules]) + ", or a mapping" * (where.count(".") < 2)
            raise ValueError(f"{where} is {str(entry)[:80]!r}; it must be {kinds}")
        return float(entry)

    def of_sweep(entry: object, where: str, known: Sequence[int] | None) -> dict[object, float | str | None]:
        if not isinstance(entry, dict):
            return {DEFAULT: value(entry, where)}
        by_size = {}
        for key, part in entry.items():
            size = int(key) if str(key).isdecimal() else key
            if size != DEFAULT and (type(size) is not int or (known is not None and size not in known)):
                kinds = f"it has K = {', '.join(map(str, known))}, and default" if known else "a mapping from K"
                raise ValueError(f"{where} names {str(key)[:80]!r}; {kinds}")
            by_size[size] = value(part, f"{where}.{key}")
        return by_size

    if not isinstance(setting, dict):
        return [value(setting, name)] * len(sizes)
    for key, entry in setting.items():
        if key not in (DEFAULT, sweep) and sweeps and key not in sweeps:
            hint = suggestion(key, [*sorted({*sweeps, sweep}), DEFAULT], "sweeps are")
            raise ValueError(f"{name} names no sweep {str(key)[:80]!r}{hint}")
        of_sweep(entry, f"{name}.{key}", list(sizes) if key == sweep else None)
    entries = of_sweep(setting.get(sweep, setting.get(DEFAULT, AUTO)), name, None)
    return [entries.get(size, entries.get(DEFAULT)) for size in sizes]


def equivalent_distance(to_training: np.ndarray, memorized: np.ndarray) -> float:
    """Return the distance delta at which d1 <= delta holds for as many samples as another rule calls memorized.

    to_training: [n] are the distances d1 to S. memorized: [n] bool is the result of that rule. Where it calls none
    memorized, the result lies just below the least distance.
    """
    count = int(memorized.sum())
    ranked = np.sort(to_training)
    return float(ranked[count - 1] if count else np.nextafter(ranked[0], np.float32(0)))


def copy_bound(spacing: np.ndarray) -> float:
    """Return the largest distance at which a sample counts as a copy: a quarter of the typical spacing of real images.

    spacing: [K] is the distance of each training image to its nearest other training image. A sample at d <= spacing /
    4 from its original is at least spacing - d >= 3 d from any other image. That is the factor of three by which Yoon
    et al., whom the paper follows, define memorized samples, turned into a distance. LPIPS is the square of a distance,
    where a quarter corresponds to half the distance of the features, and within that a sample has only one original. On
    CIFAR-10 the bound is 0.030 (K = 2) to 0.018 (K = 1,024), and Table 2 has 0.01 to 0.04; the factor of three in
    features would give 0.007.
    """
    return float(np.median(spacing)) / 4


def grid(distances: np.ndarray, bound: float) -> np.ndarray:
    """Return the edges of the log10 bins of a histogram, from the smallest distance told apart to past the largest."""
    low: float = np.floor(np.log10(bound * PILE) * BINS_PER_DECADE)
    high: float = np.ceil(np.log10(max(distances.max(), bound) * 2) * BINS_PER_DECADE)
    return np.arange(low - BINS_PER_DECADE // 2, high + 1) / BINS_PER_DECADE


def _smooth(counts: np.ndarray, bandwidth: float) -> np.ndarray:
    from scipy.ndimage import (
        gaussian_filter1d,
    )  # here: it takes half a second that thresholds which are given can spare

    return gaussian_filter1d(counts.astype(float), bandwidth * BINS_PER_DECADE, mode="constant")


def _deepest(density: np.ndarray, bound_bin: int) -> tuple[int | None, float]:
    """Return (bin of the valley, its depth) between the highest peak at or below bound_bin and the highest peak above
    it.

    Without peaks on both sides the result is (None, 1).
    """
    from scipy.signal import find_peaks  # here: as above

    peaks, _ = find_peaks(density)
    left, right = peaks[peaks <= bound_bin], peaks[peaks > bound_bin]
    if not len(left) or not len(right):
        return None, 1.0
    left, right = left[density[left].argmax()], right[density[right].argmax()]
    bottom = left + density[left : right + 1].argmin()
    return bottom, density[bottom] / min(density[left], density[right])


def find_valley(distances: np.ndarray, bound: float, random: np.random.Generator) -> Valley | None:
    """Return the valley of the density of log-distances between the highest peaks on either side of `bound`, or None.

    distances: [n]. The density is a Gaussian kernel estimate with Silverman's bandwidth. The p-value is the share of
    resamples, drawn from the density with the valley filled to the lower peak, that have a valley at least as deep.
    Two samples that are each other's nearest have the same distance, so resamples have only as many points as there are
    different distances. random: a numpy generator.
    """
    from scipy.signal import find_peaks  # here: as above

    edges = grid(distances, bound)
    logs = np.log10(np.maximum(distances, bound * PILE))
    points = len(np.unique(distances))
    spread = min(logs.std(), np.subtract(*np.quantile(logs, [0.75, 0.25])) / 1.349)
    if points < 20 or spread == 0:
        return None
    bandwidth = 0.9 * spread * points**-0.2
    counts = np.histogram(logs, edges)[0]
    density, bound_bin = _smooth(counts, bandwidth), int(np.searchsorted(edges, np.log10(bound))) - 1
    bottom, depth = _deepest(density, bound_bin)
    if bottom is None:
        return None
    centre = 10 ** ((edges[:-1] + edges[1:]) / 2)
    resampled = random.multinomial(points, counts / counts.sum(), RESAMPLES)
    bottoms = [_deepest(_smooth(sample, bandwidth), bound_bin)[0] for sample in resampled]
    low, high = np.quantile([centre[b] for b in bottoms if b is not None] or [centre[bottom]], [0.025, 0.975])
    peaks, _ = find_peaks(density)
    left, right = peaks[peaks <= bottom], peaks[peaks > bottom]
    left, right = left[density[left].argmax()], right[density[right].argmax()]
    filled = density.copy()
    filled[left : right + 1] = np.maximum(filled[left : right + 1], min(density[left], density[right]))
    null = random.multinomial(points, filled / filled.sum(), RESAMPLES)
    deeper = sum(_deepest(_smooth(sample, bandwidth), bound_bin)[1] <= depth for sample in null)
    return Valley(float(centre[bottom]), float(low), float(high), float(depth), (1 + deeper) / (1 + RESAMPLES))


def choose(valleys: Sequence[Valley | None], bounds: Sequence[float]) -> list[Threshold]:
    """Return a threshold for every K of a sweep.

    The threshold is the valley of that K if resampling confirms it (p < SIGNIFICANT), its depth is at most DEEP and its
    interval is PRECISE. Otherwise it is the bound. It never exceeds the bound. No K takes the valley of another,
    because one seed's valley would then move the whole sweep. valleys: a Valley or None for each K. bounds:
    `copy_bound` of each K.
    """
    chosen = []
    for valley, bound in zip(valleys, bounds, strict=True):
        sure = valley and valley.p_value < SIGNIFICANT and valley.depth <= DEEP and valley.high <= PRECISE * valley.low
        value, source = (min(valley.position, bound), "valley") if valley and sure else (bound, "spacing")
        chosen.append(Threshold(value, source, bound, valley))
    return chosen
