"""Basins of attraction: the critical time of a pattern (Alg. 1) and the volume of its ball (Eqs. 12 and 34)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from attractors.denoisers.diffusion import Diffusion, forward_process
from attractors.denoisers.samplers import ddim
from attractors.devices import to_device
from attractors.randomness import BASIN, generator


class Basins(NamedTuple):
    """What `critical_times` finds for P patterns of M trials each, in memory of the host."""

    t_c: torch.Tensor  # [P, M] int64: the last time from which a trial was recovered; 0: from none
    radius: torch.Tensor  # [P, M] float64: |x_{t_c} - x|, of the very perturbation recovered; 0 where t_c is 0
    searched: torch.Tensor  # [P] int64: how many times the search tried


def euclidean(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the distances |x - y|: [B] for x, y: [B, ...]."""
    return (x - y).flatten(1).norm(dim=1)


def search_times(steps: int, stride: int) -> range:
    """Return the times that Alg. 1 tries: 1, 1 + s, 1 + 2s, ... up to T - s - 1, 0-based. Time 0 is never tried.

    steps is T and stride is s. Raises ValueError where the stride leaves no time to try.
    """
    if not (times := range(1, steps - stride, stride)):
        raise ValueError(f"stride is {stride}; it must be below {steps - 1} for a schedule of {steps} steps")
    return times


@torch.inference_mode()
def critical_times(
    model: Diffusion, patterns: torch.Tensor, indices: Sequence[int] | np.ndarray, seed: int, *, delta_d: float,
    delta_p: float = 0.8, trials: int = 20, steps: int = 10, stride: int = 10,
    distance: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = euclidean, batch: int = 1000,
) -> Basins:
    """Alg. 1 for many patterns: `Basins` of patterns: [P, C, H, W] in [-1, 1].

    The search for each pattern ends by itself, when fewer than delta_p of its M = `trials` come back within
    delta_d, or after the last time; the next pattern then takes its place among those evaluated together. Each
    stands at its own time, and draws from its own generator (of `seed`, BASIN and its number in `indices`), so
    no result depends on which other patterns are in the batch. t_c follows a trial only while it comes back every time.

    steps: N', network evaluations of each recovery by DDIM. stride: s. batch: network evaluations at a time,
    a multiple of M and at least M. distance: (x, y: [B, C, H, W]) -> [B].
    The search itself is kept by the host, which waits for the device once in a round: for which trials came back.
    Raises ValueError where the stride leaves no time to try.
    """
    times = search_times(model.steps, stride)
    count, shape, device = len(patterns), patterns.shape[1:], patterns.device
    t_c, radius = np.zeros((count, trials), np.int64), np.zeros((count, trials))
    searched, contiguous = np.zeros(count, np.int64), np.ones((count, trials), bool)
    waiting, active = iter(range(count)), {}
    while True:
        while len(active) < max(1, batch // trials) and (entering := next(waiting, None)) is not None:
            active[entering] = generator(seed, BASIN, int(indices[entering]))
        if not active:
            return Basins(*(torch.from_numpy(array) for array in (t_c, radius, searched)))
        rows = np.array(list(active))
        t = np.array(times)[searched[rows]]  # [A]
        noise = np.stack([random.standard_normal((trials, *shape), np.float32) for random in active.values()])
        row, each_t = to_device(np.stack([rows, t]), device).repeat_interleave(trials, 1)  # [A M] each
        x_0 = patterns[row]
        x_t = forward_process(x_0, to_device(noise, device).flatten(0, 1), each_t, model.alpha_bar)
        recovered = distance(ddim(model, x_t, each_t, steps), x_0) <= delta_d
        outcome = torch.stack([recovered.double(), euclidean(x_t.double(), x_0)]).reshape(2, -1, trials).cpu().numpy()
        r = outcome[0] == 1
        goes_on = r.sum(1) / trials >= delta_p  # [A]
        contiguous[rows] &= r
        advances = contiguous[rows] & goes_on[:, None]  # [A, M]
        t_c[rows] = np.where(advances, t[:, None], t_c[rows])
        radius[rows] = np.where(advances, outcome[1], radius[rows])
        searched[rows] += 1
        goes_on &= searched[rows] < len(times)
        active = {row: active[row] for row in rows[goes_on].tolist()}


def evaluations(searched: np.ndarray, trials: int, steps: int, times: int) -> tuple[int, int, int]:
    """Return the network evaluations of a search in three ways of searching.

    They are those that were made, those if all patterns went on until the last one ends, and those of all times.
    """
    each = trials * steps
    return int(searched.sum()) * each, len(searched) * int(searched.max()) * each, len(searched) * times * each
