"""Products with the score's Jacobian J at sqrt(alpha_bar_t) x_0, and what follows from some hundred of them.

Alg. 3 needs 4N evaluations for a blurred spectrum of J times sigma_t sqrt(4N), and holds N^2 numbers. This module,
which is not in the paper, gives the leading singular values of J itself and estimates of its trace and Frobenius norm,
and holds N numbers for each product. Each function takes a model with `score` and `alpha_bar`, and one pattern x_0: [1,
C, H, W].
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, svds

from attractors.denoisers.diffusion import Diffusion, forward_process
from attractors.devices import to_device
from attractors.landscape.curvature import centre
from attractors.landscape.derivatives import Field, forward_products, reverse_products
from attractors.randomness import LANCZOS, PROBES, generator

TOLERANCE = 1e-3  # of Lanczos: residuals relative to the value; its error is of their square


def _score(model: Diffusion, t: int) -> Field:
    return lambda x: model.score(x, t)


def leading_singular_values(
    model: Diffusion, x_0: torch.Tensor, count: int, seed: int, index: int = 0, t: int = 5,
    tick: Callable[[], None] = lambda: None,
) -> tuple[torch.Tensor, int]:
    """Return the `count` largest singular values of J by Lanczos on J^T J, and the number of products used.

    The values are [count] float64, descending. The start is random (`seed`, LANCZOS, index). tick is called after each
    product. Raises ValueError where count is not in 1..N-1.
    """
    x, dimensions, score = centre(model, x_0, t), math.prod(x_0.shape[1:]), _score(model, t)
    if not 1 <= count < dimensions:
        raise ValueError(f"--leading is {count}; a spectrum of {dimensions} values allows 1 to {dimensions - 1}")
    used = 0

    def applied(product: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[np.ndarray], np.ndarray]:
        def apply(vector: np.ndarray) -> np.ndarray:
            nonlocal used
            used += 1
            tick()
            direction = to_device(np.asarray(vector, np.float64), x.device).to(x.dtype).reshape(x.shape)
            return product(direction).flatten().double().cpu().numpy()

        return apply

    operator = LinearOperator(
        (dimensions, dimensions), applied(lambda v: forward_products(score, x, v)),
        rmatvec=applied(lambda v: reverse_products(score, x, v[None])[1]), dtype=np.float64,
    )
    start = generator(seed, LANCZOS, index).standard_normal(dimensions)
    values = svds(operator, k=count, v0=start, tol=TOLERANCE, return_singular_vectors=False)
    return torch.from_numpy(np.sort(values)[::-1].copy()), used


class Moments(NamedTuple):
    """Estimates with the standard errors of their means: tr J, and sqrt(|J|_F^2 / N), the rms singular value of J."""

    trace: float
    trace_se: float
    rms: float
    rms_se: float


def hutchinson(
    model: Diffusion, x_0: torch.Tensor, probes: int, seed: int, index: int = 0, t: int = 5, batch: int = 16,
    progress: Callable[[range], Iterable[int]] = iter,
) -> Moments:
    """Return Hutchinson's estimates of tr J = E[v^T J v] and |J|_F^2 = E|J v|^2 over random signs v.

    `probes` >= 2 vectors are drawn from (`seed`, PROBES, index). batch: products at a time.
    """
    x, dimensions, random = centre(model, x_0, t), math.prod(x_0.shape[1:]), generator(seed, PROBES, index)
    traces, squares = [], []
    for first in progress(range(0, probes, batch)):
        signs = random.integers(0, 2, (min(batch, probes - first), *x_0.shape[1:]), np.int8)
        v = to_device(signs, x.device).to(x.dtype) * 2 - 1
        image = forward_products(_score(model, t), x, v).double()
        traces.append((v * image).flatten(1).sum(1))
        squares.append(image.square().flatten(1).sum(1))
    trace, square = torch.cat(traces), torch.cat(squares) / dimensions
    rms, error = square.mean().sqrt(), [part.std() / math.sqrt(probes) for part in (trace, square)]
    return Moments(trace.mean().item(), error[0].item(), rms.item(), (error[1] / (2 * rms)).item())


@torch.inference_mode()
def rounding(
    model: Diffusion, reference: Diffusion, x_0: torch.Tensor, seed: int, index: int = 0, t: int = 5
) -> tuple[float, float]:
    """Return the relative error of a score in low precision, and how far it may move the singular values of Alg. 3.

    It is measured at one x_t against `reference` in float32. The errors add a matrix N x 4N to M, whose norm bounds the
    move of each singular value. The norm is rms error sqrt(4N) (1 + 1/2) if the errors are independent and of equal
    size, as is assumed here. The largest value, which belongs to the mean score, moves by its relative error.
    """
    noise = generator(seed, PROBES, (1 << 40) + index).standard_normal(x_0.shape, np.float32)
    x = forward_process(x_0, torch.from_numpy(noise).to(x_0), t, model.alpha_bar)
    exact = reference.score(x, t).double()
    error = model.score(x, t).double() - exact
    bound = 1.5 * math.sqrt(4 * exact.numel()) * error.square().mean().sqrt()
    return (error.norm() / exact.norm()).item(), bound.item()
