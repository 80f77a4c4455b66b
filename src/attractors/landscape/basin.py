"""Basins of attraction: the critical time of a pattern (Alg. 1) and the volume of its ball (Eqs. 12 and 34)."""

import math
from typing import NamedTuple

import numpy as np
import torch

from attractors.denoisers.diffusion import forward_process
from attractors.denoisers.samplers import ddim
from attractors.randomness import BASIN, generator


class Basins(NamedTuple):
    """What `critical_times` finds for P patterns of M trials each."""

    t_c: torch.Tensor  # [P, M] int64: the last time from which a trial was recovered; 0: from none
    radius: torch.Tensor  # [P, M] float64: |x_{t_c} - x|, of the very perturbation recovered; 0 where t_c is 0
    searched: torch.Tensor  # [P] int64: how many times the search tried


def euclidean(x, y):
    """|x - y|: [B] for x, y: [B, ...]."""
    return (x - y).flatten(1).norm(dim=1)


def search_times(steps, stride):
    """The times Alg. 1 tries: 1, 1 + s, 1 + 2s, ... up to T - s - 1, 0-based (time 0 is never tried)."""
    return range(1, steps - stride, stride)


@torch.inference_mode()
def critical_times(
    model, patterns, indices, seed, *, delta_d, delta_p=0.8, trials=20, steps=10, stride=10,
    distance=euclidean, batch=1000, progress=lambda patterns: patterns,
):  # fmt: skip
    """Alg. 1 for many patterns: `Basins` of patterns: [P, C, H, W] in [-1, 1].

    The search ends for each pattern by itself, when fewer than delta_p of its M = `trials` come back within
    delta_d, or after the last time; the next pattern then takes its place among those evaluated together. Each
    stands at its own time, and draws from its own generator (of `seed`, BASIN and its number in `indices`), so
    nothing depends on who else is in the batch. t_c follows a trial only while it comes back every time.

    steps: N', network evaluations of each recovery by DDIM. stride: s. batch: network evaluations at a time,
    a multiple of M and at least M. distance: (x, y: [B, C, H, W]) -> [B].
    Raises ValueError where the stride leaves no time to try.
    """
    if not (times := search_times(model.steps, stride)):
        raise ValueError(
            f"stride is {stride}; it must be below {model.steps - 1} for a schedule of {model.steps} steps"
        )
    count, shape, device = len(patterns), patterns.shape[1:], patterns.device
    times = torch.tensor(times, device=device)
    t_c = torch.zeros(count, trials, dtype=torch.int64, device=device)
    radius = torch.zeros(count, trials, dtype=torch.float64, device=device)
    searched = torch.zeros(count, dtype=torch.int64, device=device)
    contiguous = torch.ones(count, trials, dtype=torch.bool, device=device)
    waiting, active = iter(progress(range(count))), {}
    while True:
        while len(active) < max(1, batch // trials) and (entering := next(waiting, None)) is not None:
            active[entering] = generator(seed, BASIN, int(indices[entering]))
        if not active:
            return Basins(t_c, radius, searched)
        rows = torch.tensor(list(active), device=device)
        noise = np.stack([random.standard_normal((trials, *shape), np.float32) for random in active.values()])
        t = times[searched[rows]]  # [A]
        each_t = t.repeat_interleave(trials)  # [A M]
        x_0 = patterns[rows].repeat_interleave(trials, 0)
        x_t = forward_process(x_0, torch.from_numpy(noise).to(device).flatten(0, 1), each_t, model.alpha_bar)
        r = (distance(ddim(model, x_t, each_t, steps), x_0) <= delta_d).reshape(-1, trials)
        goes_on = r.sum(1).double() / trials >= delta_p
        contiguous[rows] &= r
        advances = contiguous[rows] & goes_on[:, None]  # [A, M]
        t_c[rows] = torch.where(advances, t[:, None], t_c[rows])
        radius[rows] = torch.where(advances, euclidean(x_t.double(), x_0).reshape(-1, trials), radius[rows])
        searched[rows] += 1
        goes_on &= searched[rows] < len(times)
        active = {row: active[row] for row, on in zip(rows.tolist(), goes_on.tolist(), strict=True) if on}


def log_volume(radius, dimensions):
    """Eqs. 12 and 34: the logarithm of the volume of a ball of `radius` in N = `dimensions`: float64, -inf at 0.

    ln V = N/2 ln pi - ln Gamma(N/2 + 1) + N ln R.
    """
    return dimensions / 2 * math.log(math.pi) - math.lgamma(dimensions / 2 + 1) + dimensions * radius.double().log()


def evaluations(searched, trials, steps, times):
    """Network evaluations of a search: (as done, if all patterns went on until the last one ends, of a full scan)."""
    each = trials * steps
    return int(searched.sum()) * each, len(searched) * int(searched.max()) * each, len(searched) * times * each
