"""The variance-exploding SDE of the toy model, its reverse, and the likelihood by the probability-flow ODE (A.2, A.3).

dx = sigma dw (Eq. 19), t in [epsilon, T], so that x_t = x_0 + sigma sqrt(t) noise. `score`: maps x: [B, N]
float32 or float64 and t, a number, to grad log p_t: [B, N], as torch tensors.
"""

from itertools import pairwise

import numpy as np
import torch
from scipy.integrate import solve_ivp

RTOL, ATOL = 1e-6, 1e-8


def reverse_sde(score, noise, sigma=1.0, T=1.0, epsilon=1e-5, steps=1000):
    """The reverse SDE (Eq. 20) by Euler-Maruyama from p_T ~ N(0, sigma^2 T I): [B, N].

    Eq. 20 misprints its diffusion coefficient: it is sigma dw (Eq. 2), not sigma^2 dw.
    noise: iterable of `steps` tensors [B, N]: the start, then one a step; the last step adds none.
    """
    noise = iter(noise)
    x = sigma * T**0.5 * next(noise)
    times = torch.linspace(T, epsilon, steps + 1, dtype=torch.float64).tolist()
    for i, (t, later) in enumerate(pairwise(times)):
        x = x + sigma**2 * (t - later) * score(x, t)
        if i < steps - 1:
            x = x + sigma * (t - later) ** 0.5 * next(noise)
    return x


def _vector_products(score, x, t, vectors):
    """(score at x, [M, B, N]: each of `vectors` from the left times the Jacobian of the score there)."""
    value, pullback = torch.func.vjp(lambda y: score(y, t), x)
    return value, torch.func.vmap(pullback)(vectors)[0]


def exact_divergence(score):
    """The field x, t -> (score: [B, N], its divergence: [B]), the trace of the Jacobian by N products (A.3)."""

    def field(x, t):
        basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[:, None].expand(-1, *x.shape)
        value, rows = _vector_products(score, x, t, basis)
        return value, torch.einsum("ibi->b", rows)

    return field


def hutchinson_divergence(score, probes):
    """The field x, t -> (score: [B, N], an estimate of its divergence: [B]), Eq. 33.

    probes: [M, B, N] of zero mean and unit covariance, the same throughout one integration; M are averaged.
    """

    def field(x, t):
        value, products = _vector_products(score, x, t, probes)
        return value, (products * probes).sum(2).mean(0)

    return field


def flow(field, x, t, sigma=1.0, T=1.0, rtol=RTOL, atol=ATOL):
    """The probability-flow ODE (Eq. 21) from x: [B, N] at time t to T: (x_T: [B, N], integral: [B]), float64.

    The integral is that of the divergence of f = -sigma^2 / 2 grad log p from t to T, Eqs. 24 and 32.
    All B points are one system for scipy's RK45, whose step suits their root mean square error: at the default
    tolerances log p is within 1e-5 of the exact value on the circle's empirical distribution.
    Raises FloatingPointError where the solver gives up.
    """
    x = torch.as_tensor(x)
    (B, N) = x.shape

    def derivative(time, state):
        place = torch.from_numpy(state[: B * N].reshape(B, N)).to(x)
        score, divergence = (a.detach().double().cpu().numpy() for a in field(place, time))
        return -(sigma**2) / 2 * np.concatenate([score.ravel(), divergence])

    start = np.concatenate([x.double().cpu().numpy().ravel(), np.zeros(B)])
    solution = solve_ivp(derivative, (t, T), start, "RK45", [T], rtol=rtol, atol=atol)
    if not solution.success:
        raise FloatingPointError(f"the probability-flow ODE from t = {t:g} to {T:g} failed: {solution.message}")
    end = solution.y[:, -1]
    return end[: B * N].reshape(B, N), end[B * N :]


def prior_log_density(x, sigma=1.0, T=1.0):
    """log N(x; 0, sigma^2 T I), the paper's approximation of p_T: [B] from x: [B, N].

    It leaves out the data: on the unit circle p_T has variance sigma^2 T + 1/2 a coordinate, and the energies
    at sigma = T = 1 carry a bias that `associative_memory.log_density` at T in its place removes.
    """
    variance = sigma**2 * T
    return -(x**2).sum(1) / (2 * variance) - x.shape[1] / 2 * np.log(2 * np.pi * variance)


def log_likelihood(field, x, t, sigma=1.0, T=1.0, prior=prior_log_density, rtol=RTOL, atol=ATOL):
    """log p(x, t) = log p_T(x_T) + integral from t to T of the divergence of f, Eqs. 24 and 32: [B] float64.

    Eq. 24 starts at time 0 (in practice epsilon); for the energy of Eq. 25 at time t the same integral starts
    at t. Its sign is right (d log p / dt = -div f along the flow); Eq. 31 loses the minus at its end.
    prior: maps (x_T, sigma, T) to log p_T.
    """
    x_T, integral = flow(field, x, t, sigma, T, rtol, atol)
    return prior(x_T, sigma, T) + integral
