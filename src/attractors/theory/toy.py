"""The 2-D toy model of A.2: points on the unit circle, the score network, its objective and its Jacobian."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attractors.data.subsets import nested_order
from attractors.denoisers.networks import ResidualBlock
from attractors.landscape.derivatives import jacobian
from attractors.randomness import CIRCLE, INITIALISATION, generator, integer
from attractors.settings.train import Optimisation


def circle(count: int, seed: int) -> np.ndarray:
    """Draw points uniformly from the unit circle and return them in subset order (A.2): [count, 2] float64.

    The training set S_K is the first K of them, as for images (see `subsets.nested_order`).
    """
    return on_circle(generator(seed, CIRCLE).uniform(0, 2 * np.pi, count))[nested_order(count, seed)]


def on_circle(phi: np.ndarray) -> np.ndarray:
    """Return the points of the unit circle at angles phi: [n], in radians: [n, 2]."""
    return np.stack([np.cos(phi), np.sin(phi)], 1)


class ScoreNetwork(nn.Module):
    """The score network s_theta(x, t) of A.2.

    It maps x: [B, N] and t: [B] or a number, continuous in [epsilon, T], to grad log p_t: [B, N]. The input is x and
    random Fourier features of t; a linear layer, `blocks` residual blocks in the encoder and as many in the decoder,
    Swish and a linear layer follow. The output is divided by sigma sqrt(t) (Song et al.), which makes the network's own
    output of order one at every t. A.2 gives neither the scale of the frequencies nor the inside of the blocks: here
    the frequencies are drawn from N(0, scale^2), and the blocks are those of `networks`.
    """

    frequencies: torch.Tensor

    def __init__(
        self, seed: int, dimension: int = 2, width: int = 256, blocks: int = 4, features: int = 64, scale: float = 4.0,
        sigma: float = 1.0,
    ) -> None:
        super().__init__()
        self.sigma = sigma
        frequencies = scale * generator(seed, INITIALISATION).standard_normal(features // 2, np.float32)
        self.register_buffer("frequencies", torch.from_numpy(frequencies), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer(seed, INITIALISATION))
            self.input = nn.Linear(dimension + features, width)
            self.encoder = nn.Sequential(*[ResidualBlock(width) for _ in range(blocks)])
            self.decoder = nn.Sequential(*[ResidualBlock(width) for _ in range(blocks)])
            self.output = nn.Linear(width, dimension)
            nn.init.zeros_(self.output.weight)

    def forward(self, x: torch.Tensor, t: torch.Tensor | float) -> torch.Tensor:
        """Return the score at x: [B, N] and t: [B] or a number: [B, N]."""
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))[:, None]
        angles = 2 * math.pi * t * self.frequencies
        h = self.input(torch.cat([x, angles.sin(), angles.cos()], 1))  # [B, width]
        return self.output(F.silu(self.decoder(F.silu(self.encoder(h))))) / (self.sigma * t.sqrt())


def score_matching_loss(
    model: ScoreNetwork, x_0: torch.Tensor, settings: Optimisation, random: torch.Generator, epsilon: float = 1e-5,
    T: float = 1.0,
) -> torch.Tensor:
    """Return the denoising score matching loss [20] with the weight lambda(t) = sigma^2 t of [18].

    It is sigma^2 t |s_theta(x_t, t) + noise / (sigma sqrt(t))|^2 averaged over coordinates and points, with t uniform
    in [epsilon, T] and x_t = x_0 + sigma sqrt(t) noise. x_0: [B, N]. settings is not used; `training.train` passes it
    to every loss.
    """
    t = epsilon + (T - epsilon) * torch.rand(len(x_0), generator=random, device=x_0.device)
    noise = torch.randn(x_0.shape, generator=random, device=x_0.device)
    deviation = model.sigma * t.sqrt()[:, None]
    return (deviation * model(x_0 + deviation * noise, t) + noise).square().mean()


def score_jacobian(score: Callable[[torch.Tensor, float], torch.Tensor], x: torch.Tensor, t: float) -> torch.Tensor:
    """Return the Jacobian of score(x, t) at each row of x: [B, N]; entry [B, i, j] is d score_i / d x_j."""
    return jacobian(lambda y: score(y, t), x)
