"""Energies relative to a reference image along a circular path: Alg. 4 and Eqs. 44-48."""

import math

import torch


def circular_path(x_1, x_2, alpha):
    """Eq. 45 and its derivative by alpha: (cos(alpha) x_1 + sin(alpha) x_2, -sin(alpha) x_1 + cos(alpha) x_2)."""
    return math.cos(alpha) * x_1 + math.sin(alpha) * x_2, math.cos(alpha) * x_2 - math.sin(alpha) * x_1


def potential_gradient(model, x):
    """The gradient of u, Eq. 44, at t = 0: -beta_0 x / 2 - beta_0 grad log p_0(x), like x: [B, ...].

    In generative time T - t the drift is -grad u, so that u = -beta_0 log p_0 - beta_0 |x|^2 / 4: line 17 of Alg. 4 is
    right, and Eqs. 38, 39 and 44 carry the other sign of log p. What line 16 divides by sqrt(beta_0) = sigma_0 is the
    predicted noise.
    """
    beta_0 = model.betas[0].item()
    return -beta_0 / 2 * x - beta_0 * model.score(x, 0)


@torch.inference_mode()
def path_sum(model, targets, reference, nodes=20, batch=1024):
    """Alg. 4, to the letter: its relative energy of each of targets: [P, C, H, W] in [-1, 1]: [P] float64.

    reference: [C, H, W]. The sum runs from the target (alpha = 0) to the reference (pi/2), so it approximates
    u(reference) - u(target): the lower u(target), the larger. It takes both ends into a sum of `nodes` terms of width
    pi/2 / (nodes - 1), one too many: an error of order 1 / nodes. batch: network evaluations at a time.
    """
    width = math.pi / 2 / (nodes - 1)
    energies = []
    for x_1 in targets.split(batch):
        energy = x_1.new_zeros(len(x_1), dtype=torch.float64)
        for node in range(nodes):
            x, v = circular_path(x_1, reference, node * width)
            energy += (potential_gradient(model, x) * v).flatten(1).double().sum(1) * width  # Eq. 47
        energies.append(energy)
    return torch.cat(energies)


def energy(model, targets, reference, nodes=20, batch=1024):
    """u(target) - u(reference), the negative of Alg. 4's value: [P] float64; lower is more stable.

    Arguments as of `path_sum`. u is in units of beta_0 = 1e-4 nats: u / beta_0 = -log p_0 - |x|^2 / 4.
    """
    return -path_sum(model, targets, reference, nodes, batch)


def energy_gaps(targets, training):
    """Energies of targets: [P] above the mean of training images: [P'], to one reference; their mean is Eq. 48."""
    return targets - training.mean()
