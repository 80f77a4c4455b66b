"""When during training samples come to resemble the data, and when they become copies (Bonnaire et al. 2025).

Bonnaire et al. and Favero et al. 2025 find that the step at which samples resemble the data does not depend on K, and
that the step at which they become copies grows in proportion to K.
"""

from collections.abc import Sequence

import numpy as np


def snapshot_steps(iterations: int, count: int, every: int) -> list[int]:
    """Return at most `count` different steps, evenly spaced in their logarithm from `every` to `iterations`.

    All are ascending multiples of `every`, at which training offers its state, except the last, which is `iterations`.
    """
    steps = np.rint(np.geomspace(min(every, iterations), iterations, count) / every).astype(int) * every
    return sorted({int(step) for step in steps if 0 < step < iterations} | {iterations})


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the Frechet distance between Gaussians fitted to two sets of images: >= 0, in units of pixels squared.

    It is |mean_x - mean_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)), like FID but of pixels instead of features. x: [n,
    ...], y: [m, ...]. Covariances are divided by n and m. The trace of the root is the sum of the singular values of
    C_x^(1/2) C_y^(1/2), which are those of R_x R_y^T where the centred sets are Q R.
    """
    a, b = (np.asarray(part, np.float64).reshape(len(part), -1) for part in (x, y))
    means = a.mean(0), b.mean(0)
    a, b = a - means[0], b - means[1]
    roots = [np.linalg.qr(part, "r") / np.sqrt(len(part)) for part in (a, b)]
    cross = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    spread = np.square(a).sum() / len(a) + np.square(b).sum() / len(b)
    return float(max(np.square(means[0] - means[1]).sum() + spread - 2 * cross, 0))


def onset(steps: Sequence[int], values: np.ndarray, level: float) -> float:
    """Return the step at which values: [m] first reach `level` from below, interpolated in the logarithm of steps.

    steps: [m] >= 1, ascending. The result is the first step where the first value has already reached the level, and
    nan where no value does.
    """
    values = np.asarray(values, np.float64)
    reached = np.flatnonzero(values >= level)
    if not len(reached):
        return float("nan")
    at = int(reached[0])
    if at == 0:
        return float(steps[0])
    along = (level - values[at - 1]) / (values[at] - values[at - 1])
    return float(np.exp(np.log(steps[at - 1]) + along * np.log(steps[at] / steps[at - 1])))


def memorization_onset(steps: Sequence[int], shares: np.ndarray) -> float:
    """Return the step at which the memorized fraction: [m] reaches half of its largest value.

    The result is nan where never a tenth of the samples is memorized. Bonnaire et al. 2025 divide the fraction by its
    value at the end of training before they compare sizes.
    """
    most = float(np.max(shares))
    return onset(steps, shares, most / 2) if most >= 0.1 else float("nan")


def quality_onset(steps: Sequence[int], distances: np.ndarray) -> float:
    """Return the step at which a distance to held-out images: [m] > 0 has fallen half of the way, in logarithms.

    Half of the way is the geometric mean of the first and the least distance.
    """
    logs = np.log(np.maximum(distances, np.finfo(float).tiny))
    return onset(steps, -logs, -(logs[0] + logs.min()) / 2)


def growth(sizes: np.ndarray, steps: np.ndarray) -> float:
    """Return the exponent of steps ~ K^exponent by least squares in logarithms: 1 for proportion to K, 0 for a
    constant.

    sizes, steps: [m]. Pairs that are not finite are left out; the result is nan with fewer than two pairs.
    """
    sizes, steps = np.asarray(sizes, float), np.asarray(steps, float)
    kept = np.isfinite(steps) & (steps > 0)
    return float(np.polyfit(np.log(sizes[kept]), np.log(steps[kept]), 1)[0]) if kept.sum() > 1 else float("nan")
