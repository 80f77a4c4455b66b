"""The whole spectrum of the score's Jacobian J by Lanczos quadrature, from products with J; not in the paper.

Where N is large, Alg. 3 takes 4N evaluations and a matrix of N^2 numbers. A few hundred products, which hold some
vectors of N numbers, already show how the N singular values are distributed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from attractors.denoisers.diffusion import Diffusion
from attractors.devices import to_device
from attractors.landscape.curvature import centre
from attractors.landscape.derivatives import forward_products, reverse_products
from attractors.randomness import LANCZOS, generator

STREAM = 1 << 40  # random starts are numbered from here; the start of `leading_singular_values` is numbered from 0


class Spectrum(NamedTuple):
    """The distribution of the singular values of J, given at G places in ascending order. Each tensor is [G] float64.
    """

    values: torch.Tensor  # where the distribution is given
    share: torch.Tensor  # the share of all singular values that lies at or below
    share_se: torch.Tensor  # its standard error over random starts
    resolution: torch.Tensor  # a bound on the error of the quadrature, which more starts do not reduce

    def quantile(self, share: float) -> tuple[float, float]:
        """Return the singular value below which the given share of all lies, and its possible error.

        The error is half the distance between the least and the largest value that sampling and resolution allow.
        """
        values, error = self.values.numpy(), self.share_se + self.resolution
        most = np.maximum.accumulate((self.share + error).numpy())
        least = np.minimum.accumulate((self.share - error).numpy()[::-1])[::-1]
        value, low, high = (float(np.interp(share, known, values)) for known in (self.share.numpy(), most, least))
        return value, (high - low) / 2


def _unit(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows of x: [B, N] at unit length, and their lengths: [B]. A row of zeros stays as it is."""
    length = x.norm(dim=1)
    return x / length.clamp(min=torch.finfo(x.dtype).tiny)[:, None], length


def _without(x: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Return x: [B, N] without its parts along the orthonormal basis: [B, m, N]. It is done twice because of rounding.
    """
    for _ in range(2):
        x = x - (basis.mT @ (basis @ x[:, :, None]))[:, :, 0]
    return x


def bidiagonal(
    product: Callable[[torch.Tensor], torch.Tensor], transposed: Callable[[torch.Tensor], torch.Tensor],
    starts: torch.Tensor, steps: int,
) -> torch.Tensor:
    """Golub-Kahan-Lanczos: return the upper bidiagonal B = U^T J V of each start: [B, m, m] float64; m is `steps`.

    The first column of V is the start: [B, N] float64, of unit length; all columns are kept orthogonal to the earlier
    ones. product and transposed map [B, N] to J v and J^T v. They are called m and m - 1 times.
    """
    count, dimensions = starts.shape
    left, right = starts.new_zeros(2, count, steps, dimensions)
    matrix = starts.new_zeros(count, steps, steps)
    v = starts
    for k in range(steps):
        right[:, k] = v
        u, matrix[:, k, k] = _unit(_without(product(v), left[:, :k]))
        left[:, k] = u
        if k + 1 < steps:
            v, matrix[:, k, k + 1] = _unit(_without(transposed(u), right[:, : k + 1]))
    return matrix


def distribution(matrix: torch.Tensor, dimensions: int) -> Spectrum:
    """Return the `Spectrum` that follows from B: [B, m, m] float64 of `bidiagonal`, from B random starts of N numbers.

    For each start, the singular values of B are the nodes of Gauss's quadrature over the singular values of J, each
    weighted by the square of the start along its direction; the squares of the first entries of the right singular
    vectors of B are the weights. At a node, half of its weight counts as below it; between two nodes the share is
    interpolated. By the inequalities of Chebyshev, Markov and Stieltjes it is off by at most the weights of both, whose
    mean over the starts is the `resolution`. A share q of the N directions has in a random start a weight of the
    distribution Beta(q N / 2, (1 - q) N / 2), whose variance is 2 q (1 - q) / (N + 2).
    """
    _, nodes, vectors = torch.linalg.svd(matrix.cpu())
    nodes, weights = nodes.flip(1), vectors[:, :, 0].square().flip(1)  # [B, m], ascending
    values = nodes.flatten().sort().values
    shares, resolutions = np.empty((2, len(nodes), len(values)))
    for i, (node, weight) in enumerate(zip(nodes.numpy(), weights.numpy(), strict=True)):
        shares[i] = np.interp(values.numpy(), node, weight.cumsum() - weight / 2, left=0, right=1)
        place, beside = np.searchsorted(node, values.numpy()), np.pad(weight, 1)
        resolutions[i] = beside[place] + beside[place + 1]
    share, resolution = (torch.from_numpy(array.mean(0)) for array in (shares, resolutions))
    q = share.clamp(1 / dimensions, 1 - 1 / dimensions)
    return Spectrum(values, share, (2 * q * (1 - q) / ((dimensions + 2) * len(nodes))).sqrt(), resolution)


def spectrum(
    model: Diffusion, x_0: torch.Tensor, starts: int, steps: int, seed: int, index: int = 0, t: int = 5,
    tick: Callable[[], None] = lambda: None,
) -> Spectrum:
    """Return the `Spectrum` of J at sqrt(alpha_bar_t) x_0 by stochastic Lanczos quadrature (Ubaru, Chen, Saad 2017).

    x_0: [1, C, H, W]. It takes starts (2 steps - 1) products with J and its transpose, those of all starts together,
    and holds 2 starts x steps vectors of N float64. The starts are random (`seed`, LANCZOS, index). tick is called
    after each product. Raises ValueError where starts is below 1 or steps is not in 1..N.
    """
    x, dimensions = centre(model, x_0, t), x_0[0].numel()
    if starts < 1 or not 1 <= steps <= dimensions:
        raise ValueError(f"{starts} starts and {steps} steps: at least 1 is needed, and 1 to {dimensions} steps")
    shape = (starts, *x.shape[1:])

    def ticking(result: torch.Tensor) -> torch.Tensor:
        tick()
        return result.reshape(starts, dimensions).double()

    def product(v: torch.Tensor) -> torch.Tensor:
        return ticking(forward_products(lambda x: model.score(x, t), x, v.to(x.dtype).reshape(shape)))

    def transposed(u: torch.Tensor) -> torch.Tensor:
        return ticking(reverse_products(lambda x: model.score(x, t), x, u.to(x.dtype).reshape(shape)[:, None])[1])

    noise = generator(seed, LANCZOS, STREAM + index).standard_normal((starts, dimensions))
    return distribution(bidiagonal(product, transposed, _unit(to_device(noise, x.device))[0], steps), dimensions)
