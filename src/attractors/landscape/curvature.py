"""Curvature of the energy: singular values of the score around a pattern (Algs. 2 and 3) and of its Jacobian.

The score is -noise / sigma_t, and t is 0-based: the paper's t_0 = 2 has sigma_2 = 0.01897.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from attractors.denoisers.diffusion import Diffusion, forward_process
from attractors.devices import to_device
from attractors.landscape import derivatives
from attractors.randomness import CURVATURE, generator

Column = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # x_0, noise -> columns of M, all [B, C, H, W]
Progress = Callable[[range], Iterable[int]]  # wraps the loop over groups of patterns or blocks of columns

COLUMNS = 4  # columns of M for each dimension, as in Algs. 2 and 3


def _singular_values(
    column: Column, patterns: torch.Tensor, indices: Sequence[int] | np.ndarray, seed: int, batch: int,
    progress: Progress,
) -> torch.Tensor:
    """Return the singular values of M: [P, N] float64, descending; its 4N columns are column(x_0, noise): [B, ...].

    M is N x 4N and never held: M M^T is summed in float64 over blocks of columns, and the singular values are the
    roots of its eigenvalues. A value s is exact to about eps (s_max / s)^2, so 1e-6 down to s_max / 1e5.
    """
    count = COLUMNS * math.prod(patterns.shape[1:])
    group, width = max(1, batch // count), min(count, batch)
    values = []
    for start in progress(range(0, len(patterns), group)):
        x_0 = patterns[start : start + group]
        generators = [generator(seed, CURVATURE, int(i)) for i in indices[start : start + group]]
        values.append(_roots(_gram(column, x_0, generators, width)))
    return torch.cat(values)


def _gram(
    column: Column, x_0: torch.Tensor, generators: list[np.random.Generator], width: int,
    state: dict[str, Any] | None = None, save: Callable[[dict[str, Any]], object] | None = None,
    progress: Progress = iter,
) -> torch.Tensor:
    """Return M M^T: [G, N, N] float64 for patterns x_0: [G, C, H, W], summed over blocks of `width` columns.

    save is called after each block with the `state` from which the sum can continue to the same bytes.
    """
    shape, dimensions = x_0.shape[1:], math.prod(x_0.shape[1:])
    count = COLUMNS * dimensions
    gram = x_0.new_zeros(len(x_0), dimensions, dimensions, dtype=torch.float64) if state is None else state["gram"]
    done = 0 if state is None else state["columns"]
    for first in progress(range(0, count, width)):
        size = (min(width, count - first), *shape)
        noise = np.stack([random.standard_normal(size, np.float32) for random in generators])
        if first < done:
            continue
        block = column(
            x_0.repeat_interleave(size[0], 0), to_device(noise, x_0.device).to(x_0.dtype).flatten(0, 1)
        )  # [B, C, H, W]
        block = block.reshape(len(x_0), size[0], dimensions).double()
        gram.baddbmm_(block.mT, block)
        if save is not None:
            save({"columns": first + size[0], "gram": gram})
    return gram


def _roots(gram: torch.Tensor) -> torch.Tensor:
    """Return the singular values of M: [G, N], descending, from M M^T: [G, N, N] float64."""
    return torch.linalg.eigvalsh(gram).clamp_(min=0).sqrt_().flip(1)


@torch.inference_mode()
def central_difference(
    model: Diffusion, patterns: torch.Tensor, indices: Sequence[int] | np.ndarray, seed: int, t: int = 2,
    batch: int = 1024, progress: Progress = iter,
) -> torch.Tensor:
    """Alg. 2: return the singular values of M with columns (score(x^+) - score(x^-)) / 2: [P, N] float64, descending.

    patterns: [P, C, H, W] in [-1, 1]; number i is perturbed by noise of its own generator (`seed`, CURVATURE,
    indices[i]). batch: network evaluations at a time. As printed, M = sigma_t J E to third order in sigma_t, where J is
    the Jacobian of the score and E: N x 4N has standard normal entries. The singular values are therefore those of J
    times sigma_t sqrt(4N), spread by up to a half (Marchenko and Pastur). Those of `jacobian` have neither the factor
    nor the spread.
    """

    def column(x_0: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        plus, minus = (forward_process(x_0, sign * noise, t, model.alpha_bar) for sign in (1, -1))
        return (model.score(plus, t) - model.score(minus, t)) / 2

    return _singular_values(column, patterns, indices, seed, batch, progress)


@torch.inference_mode()
def one_sided(
    model: Diffusion, patterns: torch.Tensor, indices: Sequence[int] | np.ndarray, seed: int, t: int = 2,
    batch: int = 1024, progress: Progress = iter,
) -> torch.Tensor:
    """Alg. 3: return the singular values of M, whose columns are score(x^+): [P, N] float64, descending.

    The arguments are those of `central_difference`. Every column contains the score at the pattern itself, which adds
    one direction with a singular value of about sqrt(4N) times its length.
    """
    return _singular_values(_one_sided_column(model, t), patterns, indices, seed, batch, progress)


@torch.inference_mode()
def one_sided_resumable(
    model: Diffusion, x_0: torch.Tensor, index: int, seed: int, t: int, batch: int, state: dict | None = None,
    save: Callable[[dict], None] | None = None, progress: Progress = iter,
) -> torch.Tensor:
    """Alg. 3 for one pattern of many dimensions: return the values of `one_sided`, [N] float64, descending.

    x_0: [1, C, H, W]. The memory needed is that of M M^T, N^2 float64, and as much again for its eigenvalues. state is
    what `save` was last given in a run with the same arguments; the columns in it are not evaluated again.
    """
    width = min(batch, COLUMNS * math.prod(x_0.shape[1:]))
    random = [generator(seed, CURVATURE, index)]
    return _roots(_gram(_one_sided_column(model, t), x_0, random, width, state, save, progress))[0]


def _one_sided_column(model: Diffusion, t: int) -> Column:
    return lambda x_0, noise: model.score(forward_process(x_0, noise, t, model.alpha_bar), t)


def centre(model: Diffusion, x_0: torch.Tensor, t: int) -> torch.Tensor:
    """Return sqrt(alpha_bar_t) x_0, the mean of x_t, at which Jacobians are taken; x_0: [B, C, H, W]."""
    return forward_process(x_0, torch.zeros_like(x_0), t, model.alpha_bar)


def jacobian(
    model: Diffusion, patterns: torch.Tensor, t: int = 2, batch: int = 1024, progress: Progress = iter
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the singular values of the score's Jacobian J at sqrt(alpha_bar_t) x_0 and its trace: [P, N] and [P].

    The singular values descend, and both results are float64. Algs. 2 and 3 estimate these values; this function, which
    is not in the paper, has no noise and takes N derivatives instead of 8N evaluations. patterns: [P, C, H, W] in [-1,
    1]. batch: derivatives at a time, each of them a row of a Jacobian. The values are the roots of the eigenvalues of J
    J^T. Their error of about 1e-16 s_max^2 / s is below that of a Jacobian in float32 for values down to s_max / 1e8,
    and they take a third of the time of a decomposition of J itself.
    """
    group = max(1, batch // math.prod(patterns.shape[1:]))
    values, traces = [], []
    for start in progress(range(0, len(patterns), group)):
        x = centre(model, patterns[start : start + group], t)
        matrix = derivatives.jacobian(lambda x: model.score(x, t), x, batch).double()  # [G, N, N]
        traces.append(matrix.diagonal(dim1=1, dim2=2).sum(1))
        values.append(_roots(matrix @ matrix.mT))
    return torch.cat(values), torch.cat(traces)
