"""Measure patterns in a fixed order, and each group of them only until its mean is known well enough."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from attractors.landscape.selection import interleave

BLOCK = 32  # members of each group that are measured between two looks at the precision

Results = dict[str, np.ndarray]  # by name, one row for each pattern


class MeasuredPatterns(NamedTuple):
    """The result of `measure` for n patterns."""

    numbers: np.ndarray  # [n] int64, in measuring order
    results: Results  # first axis n
    counts: dict[str, int]  # how many members of each group were measured: its first ones
    reached: dict[str, float | None]  # the relative standard error at which each group ended; None: at its limit


def relative_error(values: np.ndarray) -> float:
    """Return the relative standard error of the mean over n patterns, as a root mean square over R quantities.

    values: [n, R]. The standard error of quantity r is std_r / sqrt(n), taken relative to |mean_r|. Patterns with a
    value that is not finite are left out. The result is infinite for fewer than two patterns, and for values that vary
    around 0.
    """
    values = values[np.isfinite(values).all(1)].astype(np.float64)
    if len(values) < 2:
        return np.inf
    error, mean = values.std(0, ddof=1) / np.sqrt(len(values)), np.abs(values.mean(0))
    ratio = np.divide(error, mean, out=np.where(error > 0, np.inf, 0.0), where=mean > 0)
    return float(np.sqrt(np.square(ratio).mean()))


def measure(
    members: dict[str, np.ndarray], evaluate: Callable[[np.ndarray], Results],
    precise: Callable[[Results], list[np.ndarray]], chunk: int, target: float = 0.0, state: dict | None = None,
    save: Callable[[dict], None] = lambda state: None, tick: Callable[[int], object] = lambda count: None,
) -> MeasuredPatterns:
    """Measure the members of several groups in turn, until each group is complete or precise enough.

    members has the numbers of the patterns of each group, in order; a pattern in several groups is measured once.
    evaluate maps the numbers: [m] of at most `chunk` patterns to their results. precise maps results to arrays [n, R]
    whose means are wanted (see `relative_error`). After every BLOCK members a group ends if the errors of all these
    means are at most `target`; with target 0 all are measured. save is called after each chunk with the state from
    which another call with the same arguments continues to the same result. tick is called with the number of patterns
    in each chunk.
    """
    ends = {group: len(numbers) for group, numbers in members.items()}
    reached: dict[str, float | None] = dict.fromkeys(members)
    parts: list[Results] = []
    done = resumed = 0
    if state is not None:
        parts, resumed = [{name: tensor.numpy() for name, tensor in p.items()} for p in state["parts"]], state["count"]
    results, turns = _joined(parts), 0
    while turns < max(ends.values()):
        turns += BLOCK
        numbers = interleave([numbers[: min(ends[group], turns)] for group, numbers in members.items()])
        for start in range(done, len(numbers), chunk):
            part = numbers[start : start + chunk]
            if start + len(part) > resumed:
                parts.append(evaluate(part))
                save({"count": start + len(part), "parts": [_tensors(p) for p in parts]})  # joined once in a turn only
            tick(len(part))
        done, results = len(numbers), _joined(parts)
        for group, end in ends.items():
            if target and turns < end:
                rows = np.isin(numbers, members[group][:turns])
                means = precise({name: array[:done][rows] for name, array in results.items()})
                error = max(relative_error(array) for array in means)
                if error <= target:
                    ends[group], reached[group] = turns, error
    return MeasuredPatterns(numbers, results, ends, reached)


def _joined(parts: list[Results]) -> Results:
    """Concatenate the parts and keep the result in their place; return nothing for no parts."""
    if len(parts) > 1:
        parts[:] = [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}]
    return parts[0] if parts else {}


def _tensors(results: Results) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in results.items()}
