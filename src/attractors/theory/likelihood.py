"""The variance-exploding SDE of the toy model, its reverse, and the likelihood by the probability-flow ODE (A.2, A.3).

The SDE is dx = sigma dw (Eq. 19) for t in [epsilon, T], so that x_t = x_0 + sigma sqrt(t) noise. A `Score` maps
torch tensors x: [B, N], float32 or float64, and a number t to grad log p_t: [B, N].
"""

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import torch
from scipy.integrate import solve_ivp

from attractors.landscape.derivatives import reverse_products

Score = Callable[[torch.Tensor, float], torch.Tensor]
Field = Callable[[torch.Tensor, float], tuple[torch.Tensor, torch.Tensor]]  # (score: [B, N], divergence: [B])

RTOL, ATOL = 1e-6, 1e-8


def reverse_sde(
    score: Score, noise: Iterable[torch.Tensor], sigma: float = 1.0, T: float = 1.0, epsilon: float = 1e-5,
    steps: int = 1000,
) -> torch.Tensor:
    """Solve the reverse SDE (Eq. 20) by Euler-Maruyama from p_T ~ N(0, sigma^2 T I); return the samples: [B, N].

    Eq. 20 misprints its diffusion coefficient: it is sigma dw (Eq. 2), not sigma^2 dw.
    noise yields `steps` tensors [B, N]: the first is the start, and each step but the last adds the next one.
    """
    noise = iter(noise)
    x = sigma * T**0.5 * next(noise)
    times = torch.linspace(T, epsilon, steps + 1, dtype=torch.float64).tolist()
    for i, (t, later) in enumerate(pairwise(times)):
        x = x + sigma**2 * (t - later) * score(x, t)
        if i < steps - 1:
            x = x + sigma * (t - later) ** 0.5 * next(noise)
    return x


def exact_divergence(score: Score) -> Field:
    """Return the field (x, t) -> (score: [B, N], its divergence: [B]), with the divergence computed exactly (A.3).

    The trace of the Jacobian takes N vector-Jacobian products.
    """

    def field(x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)[:, None].expand(-1, *x.shape)
        value, rows = reverse_products(lambda y: score(y, t), x, basis)
        return value, torch.einsum("ibi->b", rows)

    return field


def flow(
    field: Field, x: torch.Tensor | np.ndarray, t: float, sigma: float = 1.0, T: float = 1.0, rtol: float = RTOL,
    atol: float = ATOL,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve the probability-flow ODE (Eq. 21) from x: [B, N] at time t to T.

    Returns (x_T: [B, N], integral: [B]) in float64. The integral is that of the divergence of f, which is
    -sigma^2 / 2 grad log p, from t to T; `field` gives the score and its divergence. log p(x, t) is log p_T(x_T) +
    integral (Eqs. 24 and 32). Eq. 24 starts at time 0 (in practice epsilon); for the energy of Eq. 25 at time t the
    same integral starts at t. The sign of Eq. 24 is right (d log p / dt = -div f along the flow); Eq. 31 loses the
    minus at its end.
    scipy's RK45 integrates all B points as one system and chooses its steps by their root mean square error: at the
    default tolerances log p is within 1e-5 of the exact value for the empirical distribution of points on the circle.
    Raises FloatingPointError where the solver fails.
    """
    x = torch.as_tensor(x)
    (B, N) = x.shape

    def derivative(time: float, state: np.ndarray) -> np.ndarray:
        place = torch.from_numpy(state[: B * N].reshape(B, N)).to(x)
        score, divergence = (a.detach().double().cpu().numpy() for a in field(place, time))
        return -(sigma**2) / 2 * np.concatenate([score.ravel(), divergence])

    start = np.concatenate([x.double().cpu().numpy().ravel(), np.zeros(B)])
    solution = solve_ivp(derivative, (t, T), start, "RK45", [T], rtol=rtol, atol=atol)
    if not solution.success:
        raise FloatingPointError(f"the probability-flow ODE from t = {t:g} to {T:g} failed: {solution.message}")
    end = solution.y[:, -1]
    return end[: B * N].reshape(B, N), end[B * N :]


def prior_log_density(x: np.ndarray, sigma: float = 1.0, T: float = 1.0) -> np.ndarray:
    """Return log N(x; 0, sigma^2 T I), the paper's approximation of log p_T: [B] from x: [B, N].

    The approximation leaves out the data. On the unit circle p_T has variance sigma^2 T + 1/2 per coordinate, which
    biases the energies at sigma = T = 1. Using `associative_memory.log_density` at time T instead removes this bias.
    """
    variance = sigma**2 * T
    return -(x**2).sum(1) / (2 * variance) - x.shape[1] / 2 * np.log(2 * np.pi * variance)
