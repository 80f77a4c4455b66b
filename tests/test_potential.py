"""Alg. 4 against the exact potential of Gaussian data: its value, its sign, and its convergence."""

import math
from itertools import pairwise

import builders
import numpy as np
import pytest
import torch

from attractors.denoisers.diffusion import Diffusion, linear_betas
from attractors.landscape.potential import energy, path_sum, potential_gradient

SHAPE = (1, 2, 3)
BETAS = linear_betas()
BETA_0 = BETAS[0].item()
MEAN = torch.tensor([0.3, -0.2, 0.1, 0.0, 0.4, -0.5]).reshape(SHAPE)
VARIANCE = 0.2  # of x_0, in each direction


def images(count, seed=0):
    return builders.images(count, SHAPE, seed)


class Gaussian(torch.nn.Module):
    """The exact noise prediction for data from N(MEAN, VARIANCE): -sigma_t grad log p_t."""

    def forward(self, x, t):
        a = torch.cumprod(1 - BETAS, 0)[t[0]].item()
        return math.sqrt(1 - a) * (x - math.sqrt(a) * MEAN) / (a * VARIANCE + 1 - a)


def exact_potential(x, t=0):
    """u = -beta_t log p_t - beta_t |x|^2 / 4, up to a constant: [P]."""
    a, beta, x = torch.cumprod(1 - BETAS, 0)[t].item(), BETAS[t].item(), x.double()
    log_p = -(x - math.sqrt(a) * MEAN).flatten(1).square().sum(1) / (2 * (a * VARIANCE + 1 - a))
    return -beta * log_p - beta * x.flatten(1).square().sum(1) / 4


def literal_alg_4(model, x_1, x_2, nodes):
    """Alg. 4 as printed, one number at a time."""
    alphas = [math.pi / 2 * i / (nodes - 1) for i in range(nodes)]
    delta = alphas[1] - alphas[0]
    beta_0, total = model.betas[0].item(), 0.0
    for alpha in alphas:
        x = math.cos(alpha) * x_1 + math.sin(alpha) * x_2
        v = -math.sin(alpha) * x_1 + math.cos(alpha) * x_2
        gradient_of_log_p = -model.noise_prediction(x[None], 0)[0] / math.sqrt(beta_0)
        terms = (-0.5 * beta_0 * x - beta_0 * gradient_of_log_p) * v * delta
        for j in range(x.numel()):
            total += terms.flatten()[j].item()
    return total


def test_path_sum_equals_alg_4_to_the_letter():
    model = builders.exact_model(images(20))
    targets, reference = images(7, seed=1), images(1, seed=2)[0]
    expected = [literal_alg_4(model, x, reference, 20) for x in targets]
    for batch in (2, 7, 100):
        np.testing.assert_allclose(path_sum(model, targets, reference, 0, 20, batch), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("t", [0, 40, 999])
def test_potential_gradient_equals_the_derivative_of_the_exact_potential(t):
    x = images(5).double().requires_grad_()
    (expected,) = torch.autograd.grad(exact_potential(x, t).sum(), x)
    found = potential_gradient(Diffusion(Gaussian(), BETAS), x.detach(), t)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("t", [0, 40, 200])
def test_energy_converges_to_the_exact_potential_difference_as_one_over_nodes(t):
    model, targets, reference = Diffusion(Gaussian(), BETAS), images(6).double(), images(1, seed=2)[0].double()
    alpha_bar = torch.cumprod(1 - BETAS, 0)
    scale = (alpha_bar[t] / alpha_bar[0]).sqrt()
    exact = exact_potential(scale * targets, t) - exact_potential(scale * reference[None], t)
    errors = [
        (energy(model, targets, reference, t, nodes) - exact).abs().max().item() for nodes in (20, 40, 80, 160, 5120)
    ]
    for coarse, fine in pairwise(errors[:4]):
        assert fine == pytest.approx(coarse / 2, rel=0.1)
    assert errors[-1] < 2e-3 * exact.abs().max()


def test_sign_an_image_at_the_mode_is_lower_than_one_far_from_it_and_alg_4_is_the_negative():
    # |x| is kept, so that only log p differs.
    model, reference = Diffusion(Gaussian(), BETAS), images(1, seed=2)[0]
    targets = torch.stack([MEAN, -MEAN])
    stable, unstable = energy(model, targets, reference, nodes=2000)
    assert stable < unstable
    assert (unstable - stable).item() == pytest.approx(
        BETA_0 * 4 * math.sqrt(1 - BETA_0) * MEAN.square().sum().item() / (2 * ((1 - BETA_0) * VARIANCE + BETA_0)),
        rel=0.01,
    )
    assert torch.equal(path_sum(model, targets, reference), -energy(model, targets, reference))


def test_memory_of_the_exact_denoiser_lies_below_what_is_off_it_by_half_the_squared_distance():
    # Near one memory u = |x - sqrt(a) xi|^2 / 2 - beta_0 |x|^2 / 4, because beta_0 = sigma_0^2.
    memory = images(1)
    model = builders.exact_model(memory)
    off = memory + 0.3 * images(1, seed=3)
    low, high = energy(model, torch.cat([memory, off]).double(), images(1, seed=2)[0].double(), nodes=5_000)
    assert (high - low).item() == pytest.approx((off - memory).square().sum().item() / 2, rel=0.01)
