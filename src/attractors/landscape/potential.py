"""Energies relative to a reference image along a circular path: Alg. 4 and Eqs. 44-48. t is 0-based."""

import math

import torch

from attractors.denoisers.diffusion import Diffusion


def circular_path(x_1: torch.Tensor, x_2: torch.Tensor, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the circular path cos(alpha) x_1 + sin(alpha) x_2, Eq. 45, and its derivative with respect to alpha."""
    return math.cos(alpha) * x_1 + math.sin(alpha) * x_2, math.cos(alpha) * x_2 - math.sin(alpha) * x_1


def potential_gradient(model: Diffusion, x: torch.Tensor, t: int = 0, beta: float | None = None) -> torch.Tensor:
    """Return the gradient of u, Eq. 44, at x: [B, ...] and t, 0-based: -beta_t x / 2 - beta_t grad log p_t(x).

    In generative time T - t the drift is -grad u, so that u = -beta_t log p_t - beta_t |x|^2 / 4. Line 17 of Alg. 4 is
    right, and Eqs. 38, 39 and 44 have the other sign of log p. The quantity that line 16 divides by sqrt(beta_0) =
    sigma_0 is the predicted noise. Callers that evaluate many x pass beta_t as the number beta, so that it is read from
    the device once.
    """
    beta = model.betas[t].item() if beta is None else beta
    return -beta / 2 * x - beta * model.score(x, t)


@torch.inference_mode()
def path_sum(
    model: Diffusion, targets: torch.Tensor, reference: torch.Tensor, t: int = 0, nodes: int = 20, batch: int = 1024
) -> torch.Tensor:
    """Return the relative energies of targets: [P, C, H, W] in [-1, 1] by Alg. 4, at t = 0 exactly as printed: [P]
    float64.

    reference: [C, H, W]. The sum runs from the target (alpha = 0) to the reference (pi/2), so it approximates
    u(reference) - u(target): the lower u(target), the larger the value. It includes both ends in a sum of `nodes` terms
    of width pi/2 / (nodes - 1), which is one term too many and an error of order 1 / nodes. batch is the number of
    network evaluations at a time.

    A time t > 0 is not in the paper. It gives the energy at a noise level that the network resolves. Targets and
    reference are then scaled by sqrt(alpha_bar_t / alpha_bar_0), as the forward process scales means from time 0 to t.
    """
    scale, width = (model.alpha_bar[t] / model.alpha_bar[0]).sqrt().item(), math.pi / 2 / (nodes - 1)
    beta, energies = model.betas[t].item(), []
    for x_1 in (scale * targets).split(batch):
        energy = x_1.new_zeros(len(x_1), dtype=torch.float64)
        for node in range(nodes):
            x, v = circular_path(x_1, scale * reference, node * width)
            energy += (potential_gradient(model, x, t, beta) * v).flatten(1).double().sum(1) * width  # Eq. 47
        energies.append(energy)
    return torch.cat(energies)


def energy(
    model: Diffusion, targets: torch.Tensor, reference: torch.Tensor, t: int = 0, nodes: int = 20, batch: int = 1024
) -> torch.Tensor:
    """Return u(target) - u(reference), the negative of the value of Alg. 4: [P] float64. Lower is more stable.

    The arguments are those of `path_sum`. u / beta_t = -log p_t - |x|^2 / 4 is in nats; beta_0 is 1e-4.
    """
    return -path_sum(model, targets, reference, t, nodes, batch)
