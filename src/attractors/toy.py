"""The 2-D toy model of A.2: points on the unit circle, the score network, its objective and its derivatives."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from sklearn.cluster import AgglomerativeClustering
from torch import nn

from attractors.associative_memory import attractors, hessian, inverse_temperature, log_density, score
from attractors.likelihood import flow, prior_log_density
from attractors.networks import ResidualBlock
from attractors.randomness import CIRCLE, INITIALISATION, generator, integer


def circle(count, seed):
    """Points drawn uniformly from the unit circle (A.2): [count, 2] float64. The first K are the training set S_K."""
    phi = generator(seed, CIRCLE).uniform(0, 2 * np.pi, count)
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
    return torch.func.vmap(torch.func.jacfwd(lambda y: score(y[None], t)[0]))(x)


def grid(extent, side):
    """A side x side grid over [-extent, extent]^2: [side^2, 2], the first coordinate fastest."""
    axis = np.linspace(-extent, extent, side)
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)


def empirical_field(memories, sigma=1.0):
    """The exact score of the empirical distribution (Eq. 4) and its divergence, for `likelihood.flow`."""

    def field(x, t):
        beta, x = inverse_temperature(t, sigma), x.numpy()
        divergence = -beta * np.trace(hessian(x, memories, beta), axis1=1, axis2=2)
        return torch.from_numpy(score(x, memories, beta)), torch.from_numpy(divergence)

    return field


def energies(field, memories, x, t, sigma=1.0, T=1.0):
    """E = -2 sigma^2 t log p (Eq. 25) at x: [B, 2] by the probability-flow ODE, with each of two priors.

    Returns {"gaussian_prior": [B], "exact_prior": [B]}: p_T taken as N(0, sigma^2 T I), as in the paper, and as
    Eq. 4 says it is. The authors' code doubles this energy.
    """
    x_T, integral = flow(field, torch.from_numpy(x), t, sigma, T)
    priors = {
        "gaussian_prior": prior_log_density(x_T, sigma, T),
        "exact_prior": log_density(x_T, memories, inverse_temperature(T, sigma)),
    }
    return {name: -2 * sigma**2 * t * (log_prior + integral) for name, log_prior in priors.items()}


def energy_error(energy, exact, weights):
    """Root mean square of energy - exact under weights: [B], both up to a constant: their means are aligned.

    Also relative to the standard deviation of `exact`, and the difference of the means.
    """
    weights = weights / weights.sum()
    offset = weights @ (energy - exact)
    rms = np.sqrt(weights @ (energy - exact - offset) ** 2)
    return {"rms": rms, "relative": rms / np.sqrt(weights @ (exact - weights @ exact) ** 2), "offset": offset}


def score_error(score, exact, weights):
    """Root mean square of |score - exact| under weights: [B], also relative to that of |exact|."""
    weights = weights / weights.sum()
    rms = np.sqrt(weights @ ((score - exact) ** 2).sum(1))
    return {"rms": rms, "relative": rms / np.sqrt(weights @ (exact**2).sum(1))}


def learned_attractors(model, memories, t, start):
    """`associative_memory.attractors` of the energy whose gradient is -2 sigma^2 t s_theta: minima at time t.

    s_theta need not be a gradient; the Hessian is the symmetric part of its Jacobian.
    """
    scale = -2 * model.sigma**2 * t

    def gradient(x):
        return scale * model(torch.from_numpy(x), t).numpy()

    def curvature(x):
        J = score_jacobian(model, torch.from_numpy(x), t).numpy()
        return scale / 2 * (J + J.transpose(0, 2, 1))

    return attractors(memories, gradient, curvature, model.sigma * t**0.5, start)


def cluster(samples, distance):
    """Agglomerative clustering (A.2) by average linkage, cut at `distance`: a label for each of samples: [n].

    The paper does not give linkage or number of clusters. The largest cluster is number 0.
    """
    labels = AgglomerativeClustering(None, linkage="average", distance_threshold=distance).fit_predict(samples)
    rank = np.argsort(np.argsort(-np.bincount(labels), kind="stable"), kind="stable")
    return rank[labels]


def share_near(x, memories, delta):
    """The share of x: [n, 2] within delta of a memory."""
    return float((cdist(x, memories).min(1) < delta).mean())
