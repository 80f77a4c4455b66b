"""A census of attractors: the fixed points of x <- E[x_0 | sqrt(alpha_bar_t) x], and which of them are stable.

For the exact denoiser the map is a gradient step on E^AM of Eq. 6 at beta = alpha_bar_t / (2 sigma_t^2), so that its
stable fixed points are the minima of that energy (see `theory.associative_memory`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage

from attractors.denoisers.diffusion import Diffusion, forward_process
from attractors.landscape.derivatives import jacobian
from attractors.randomness import CENSUS, generator

Map = Callable[[torch.Tensor], torch.Tensor]


class Descent(NamedTuple):
    """Where the iteration from B starts ended."""

    x: torch.Tensor  # [B, ...]
    steps: torch.Tensor  # [B] int64: how many steps were taken
    moving: torch.Tensor  # [B] bool: the last step was still longer than the tolerance


def retrieval(model: Diffusion, t: int) -> Map:
    """Return the map x -> E[x_0 | x_t = sqrt(alpha_bar_t) x] of images [B, C, H, W] at time t, 0-based."""
    scale = float(model.alpha_bar[t].sqrt())
    return lambda x: model.denoised(scale * x, t)


@torch.inference_mode()
def descend(step: Map, x: torch.Tensor, tolerance: float = 1e-3, steps: int = 3000) -> Descent:
    """Iterate x <- step(x) from x: [B, ...] until each row moves by less than `tolerance`, at most `steps` times."""
    x, taken = x.clone(), torch.zeros(len(x), dtype=torch.int64, device=x.device)
    active = torch.arange(len(x), device=x.device)
    for _ in range(steps):
        if not len(active):
            break
        y = step(x[active])
        length = (y - x[active]).flatten(1).norm(dim=1)
        x[active], taken[active] = y, taken[active] + 1
        active = active[~(length < tolerance)]  # what diverges moves, too
    moving = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    moving[active] = True
    return Descent(x, taken, moving)


def merge(points: np.ndarray, radius: float, method: str = "single") -> np.ndarray:
    """Return the number of each point's state: [n] int64, the most frequent first. points: [n, ...].

    With the method "single", points belong to one state where steps of at most `radius` lead from one to the other;
    with "complete", only where all points of the state lie within `radius` of each other.
    """
    if len(points) < 2:
        return np.zeros(len(points), np.int64)
    flat = np.asarray(points, np.float64).reshape(len(points), -1)
    labels = fcluster(linkage(flat, method), radius, "distance") - 1
    rank = np.argsort(np.argsort(-np.bincount(labels), kind="stable"), kind="stable")
    return rank[labels]


def largest_eigenvalues(step: Map, x: torch.Tensor, batch: int = 1024) -> torch.Tensor:
    """Return the largest eigenvalue of the symmetrized Jacobian of the map at each of x: [B, ...]: [B] float64.

    A fixed point is stable where it is below 1. batch: rows of Jacobians at a time.
    """
    J = jacobian(step, x, batch).double()
    return torch.linalg.eigvalsh((J + J.mT) / 2)[:, -1]


@torch.inference_mode()
def return_rates(
    model: Diffusion, states: torch.Tensor, t: int, seed: int, radius: float, trials: int = 50,
    tolerance: float = 1e-3, steps: int = 3000,
) -> torch.Tensor:
    """Return the share of trials in which each of states: [M, C, H, W] is reached again after noise: [M] float64.

    A trial draws x_t of the forward process at time t, denoises it once, and iterates to a fixed point, which must lie
    within `radius` of the state. Noised again and again, a state with the return rate q is left after 1 / (1 - q)
    rounds on average. Trial j of state i is drawn from (`seed`, CENSUS, i).
    """
    if not len(states):
        return torch.zeros(0, dtype=torch.float64)
    draws = [generator(seed, CENSUS, i).standard_normal((trials, *states.shape[1:]), np.float32)
             for i in range(len(states))]
    noise = torch.from_numpy(np.concatenate(draws)).to(states)
    repeated = states.repeat_interleave(trials, 0)
    x = model.denoised(forward_process(repeated, noise, t, model.alpha_bar), t)
    ends = descend(retrieval(model, t), x, tolerance, steps).x
    return ((ends - repeated).flatten(1).norm(dim=1) <= radius).double().reshape(-1, trials).mean(1)
