"""The 2-D toy model of A.2: points on the unit circle, the score network, its objective and its Jacobian."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attractors.data.subsets import nested_order
from attractors.denoisers.networks import ResidualBlock
from attractors.randomness import CIRCLE, INITIALISATION, generator, integer


def circle(count, seed):
    """Points drawn uniformly from the unit circle, in subset order (A.2): [count, 2] float64.

    The training set S_K is the first K, as everywhere (`subsets.nested_order`).
    """
    return on_circle(generator(seed, CIRCLE).uniform(0, 2 * np.pi, count))[nested_order(count, seed)]


def on_circle(phi):
    """The points of the unit circle at angles phi: [n] to [n, 2]."""
    return np.stack([np.cos(phi), np.sin(phi)], 1)


class ScoreNetwork(nn.Module):
    """s_theta(x, t) of A.2: x: [B, N] and t: [B] or a number, continuous in [epsilon, T], to grad log p_t: [B, N].

    Random Fourier features of t, a linear layer on them and x, `blocks` residual blocks in the encoder and as
    many in the decoder, Swish, a linear layer. Its output is divided by sigma sqrt(t) (Song et al.), so that it
    is of order one at every t. A.2 does not give the frequencies' scale or the blocks' inside: here
    N(0, scale^2) and those of `networks`.
    """

    def __init__(self, seed, dimension=2, width=256, blocks=4, features=64, scale=4.0, sigma=1.0):
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

    def forward(self, x, t):
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))[:, None]
        angles = 2 * math.pi * t * self.frequencies
        h = self.input(torch.cat([x, angles.sin(), angles.cos()], 1))  # [B, width]
        return self.output(F.silu(self.decoder(F.silu(self.encoder(h))))) / (self.sigma * t.sqrt())


def score_matching_loss(model, x_0, settings, random, epsilon=1e-5, T=1.0):
    """Denoising score matching [20] weighted by lambda(t) = sigma^2 t, which makes it the objective of [18].

    sigma^2 t |s_theta(x_t, t) + noise / (sigma sqrt(t))|^2 averaged over coordinates, t uniform in [epsilon, T],
    x_t = x_0 + sigma sqrt(t) noise; x_0: [B, N]. settings: unused, for `training.train`.
    """
    t = epsilon + (T - epsilon) * torch.rand(len(x_0), generator=random, device=x_0.device)
    noise = torch.randn(x_0.shape, generator=random, device=x_0.device)
    deviation = model.sigma * t.sqrt()[:, None]
    return (deviation * model(x_0 + deviation * noise, t) + noise).square().mean()


def score_jacobian(score, x, t):
    """The Jacobian of score(x, t) at each of x: [B, N]; [B, i, j] is d score_i / d x_j."""
    return torch.func.vmap(torch.func.jacrev(lambda y: score(y[None], t)[0]))(x)
