"""Curvature of the energy: singular values of the score around a pattern (Algs. 2 and 3) and of its Jacobian.

The score is -noise / sigma_t, and t is 0-based: the paper's t_0 = 2 has sigma_2 = 0.01897.
"""

import math

import numpy as np
import torch

from attractors.denoisers.diffusion import forward_process
from attractors.randomness import CURVATURE, generator

COLUMNS = 4  # columns of M for each dimension, as in Algs. 2 and 3


def _singular_values(column, patterns, indices, seed, batch, progress):
    """The singular values of M: [P, N] float64, descending; its 4N columns are column(x_0, noise): [B, ...].

    M is N x 4N and never held: M M^T is summed in float64 over blocks of columns, and the singular values are the
    roots of its eigenvalues. A value s is exact to about eps (s_max / s)^2, so 1e-6 down to s_max / 1e5.
    """
    count = COLUMNS * math.prod(patterns.shape[1:])
    group, width = max(1, batch // count), min(count, batch)
    found = []
    for start in progress(range(0, len(patterns), group)):
        x_0 = patterns[start : start + group]
        generators = [generator(seed, CURVATURE, int(i)) for i in indices[start : start + group]]
        found.append(_roots(_gram(column, x_0, generators, width)))
    return torch.cat(found)


def _gram(column, x_0, generators, width, state=None, save=None, progress=lambda blocks: blocks):
    """M M^T: [G, N, N] float64 for patterns x_0: [G, C, H, W], summed over blocks of `width` columns.

    save: called after each block with what `state` takes to go on there, to the same bytes.
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
        block = column(x_0.repeat_interleave(size[0], 0), torch.from_numpy(noise).to(x_0).flatten(0, 1))  # [B, C, H, W]
        block = block.reshape(len(x_0), size[0], dimensions).double()
        gram.baddbmm_(block.mT, block)
        if save is not None:
            save({"columns": first + size[0], "gram": gram})
    return gram


def _roots(gram):
    """The singular values of M: [G, N], descending, from M M^T: [G, N, N]."""
    return torch.linalg.eigvalsh(gram).clamp_(min=0).sqrt_().flip(1)


@torch.inference_mode()
def central_difference(model, patterns, indices, seed, t=2, batch=1024, progress=lambda groups: groups):
    """Alg. 2: the singular values of M, M^(i) = (score(x^+) - score(x^-)) / 2: [P, N] float64, descending.

    patterns: [P, C, H, W] in [-1, 1], number i perturbed by noise of its own generator (`seed`, CURVATURE,
    indices[i]). batch: network evaluations at a time.
    As printed, M = sigma_t J E with J the Jacobian of the score and E: N x 4N of standard normal entries, to third
    order in sigma_t: its singular values are those of J times sigma_t sqrt(4N), blurred by up to a half
    (Marchenko and Pastur). `jacobian` is without either.
    """

    def column(x_0, noise):
        plus, minus = (forward_process(x_0, sign * noise, t, model.alpha_bar) for sign in (1, -1))
        return (model.score(plus, t) - model.score(minus, t)) / 2

    return _singular_values(column, patterns, indices, seed, batch, progress)


@torch.inference_mode()
def one_sided(model, patterns, indices, seed, t=2, batch=1024, progress=lambda groups: groups):
    """Alg. 3: the singular values of M, M^(i) = score(x^+): [P, N] float64, descending.

    Arguments as of `central_difference`. The score at the pattern itself is in every column, and adds one
    direction with a singular value of about sqrt(4N) times its length.
    """
    return _singular_values(_one_sided_column(model, t), patterns, indices, seed, batch, progress)


@torch.inference_mode()
def one_sided_resumable(model, x_0, index, seed, t, batch, state=None, save=None, progress=lambda blocks: blocks):
    """Alg. 3 for one pattern of many dimensions: [N] float64, descending, the values of `one_sided`.

    x_0: [1, C, H, W]. Memory: M M^T, N^2 float64, and as much again for its eigenvalues. state: what `save` was last
    given, of a run with the same arguments; the columns it holds are not evaluated again.
    """
    width = min(batch, COLUMNS * math.prod(x_0.shape[1:]))
    random = [generator(seed, CURVATURE, index)]
    return _roots(_gram(_one_sided_column(model, t), x_0, random, width, state, save, progress))[0]


def _one_sided_column(model, t):
    return lambda x_0, noise: model.score(forward_process(x_0, noise, t, model.alpha_bar), t)


def jacobian(model, patterns, t=2, batch=1024, progress=lambda groups: groups):
    """(singular values: [P, N], descending; trace: [P]) of the score's Jacobian at sqrt(alpha_bar_t) x_0, in float64.

    What Algs. 2 and 3 estimate, without noise and from N derivatives in place of 8N evaluations; not in the paper.
    patterns: [P, C, H, W] in [-1, 1]. batch: derivatives at a time, each a row of a Jacobian by reverse mode.
    """
    centres = forward_process(patterns, torch.zeros_like(patterns), t, model.alpha_bar)
    dimensions = math.prod(patterns.shape[1:])
    basis = torch.eye(dimensions, dtype=patterns.dtype, device=patterns.device).reshape(-1, *patterns.shape[1:])
    group = max(1, batch // dimensions)
    values, traces = [], []
    for start in progress(range(0, len(patterns), group)):
        x, rows = centres[start : start + group], []
        for directions in basis.split(batch):
            at = x.repeat_interleave(len(directions), 0).requires_grad_()
            with torch.enable_grad():
                along = (model.score(at, t) * directions.repeat(len(x), 1, 1, 1)).sum()
            (row,) = torch.autograd.grad(along, at)
            rows.append(row.reshape(len(x), len(directions), dimensions))
        matrix = torch.cat(rows, 1).double()  # [B, N, N]
        values.append(torch.linalg.svdvals(matrix))
        traces.append(matrix.diagonal(dim1=1, dim2=2).sum(1))
    return torch.cat(values), torch.cat(traces)


def effective_rank(values):
    """exp(entropy) of singular values scaled to sum 1 (Roy and Vetterli): [P] in [1, N], from values: [P, N]."""
    shares = values / values.sum(1, keepdim=True)
    return torch.special.entr(shares).sum(1).exp()


def spectral_gap(values, factor=2.0, skip=5):
    """(dimension: [P] int64, gap: [P]) from singular values: [P, N], descending.

    gap: the largest ratio s_i / s_{i+1} of neighbours (drop of the logarithm) after the `skip` largest, which the
    paper leaves out too: a ridge or the mean score sets a few far above the rest. dimension: the N - i values below it,
    the directions in which the score pulls weakly, which span the manifold (D.1); 0 where no drop reaches `factor`,
    as around an isolated memory.
    """
    logs = values[:, min(skip, values.shape[1] - 2) :].clamp(min=torch.finfo(values.dtype).tiny).log()
    gap, at = (logs[:, :-1] - logs[:, 1:]).max(1)
    dimension = logs.shape[1] - 1 - at
    return torch.where(gap >= math.log(factor), dimension, 0), gap.exp()


def degrees_of_freedom(trace, sigma, dimensions):
    """N + sigma_t^2 tr J: [P], from the trace: [P] of the score's Jacobian; not in the paper.

    The trace of d E[sqrt(alpha_bar) x_0 | x_t] / d x_t, the number of directions in which the model keeps what it
    is given: 0 at an isolated memory, d on a flat manifold of d dimensions that is wide beside sigma_t.
    """
    return dimensions + sigma**2 * trace
