"""The schedule, what a network's output means, and the exact denoiser, against closed forms."""

import torch
from builders import exact_model
from torch import nn

from attractors.denoisers.controls import ExactNoise
from attractors.denoisers.diffusion import Diffusion, linear_betas
from attractors.denoisers.networks import LinearNoise
from attractors.denoisers.samplers import ancestral, sample_noise


class Gaussian(nn.Module):
    """The exact noise prediction when images are N(0, s^2): sigma x / (alpha_bar s^2 + sigma^2)."""

    def __init__(self, alpha_bar, s):
        super().__init__()
        self.alpha_bar, self.s = alpha_bar, s

    def forward(self, x, t):
        alpha_bar = self.alpha_bar[t].to(x).reshape(-1, *[1] * (x.ndim - 1))
        return (1 - alpha_bar).sqrt() * x / (alpha_bar * self.s**2 + 1 - alpha_bar)


def gaussian_model(s):
    betas = linear_betas()
    return Diffusion(Gaussian(torch.cumprod(1 - betas, 0), s), betas)


def test_sigma_at_t_2_is_the_value_of_the_design():
    assert abs(gaussian_model(1).sigma(torch.tensor(2)).item() - 0.01897) < 1e-5


def test_score_is_the_gradient_of_the_exact_log_density_of_gaussian_images(random):
    model, s = gaussian_model(0.3), 0.3
    x = torch.randn(6, 1, 2, 2, generator=random)
    for t in (2, 200, 800):
        alpha_bar = model.alpha_bar[t].item()
        torch.testing.assert_close(model.score(x, t), -x / (alpha_bar * s**2 + 1 - alpha_bar), rtol=1e-5, atol=1e-6)


def test_ancestral_samples_of_gaussian_images_have_their_variance():
    model = gaussian_model(0.2)
    samples = ancestral(model, sample_noise(0, range(400), (1, 4, 4), model.steps))
    assert abs(samples.std().item() / 0.2 - 1) < 0.03
    assert abs(samples.mean().item()) < 0.01


def test_a_sample_does_not_depend_on_the_batch_it_is_drawn_in():
    model = gaussian_model(0.2)
    together = ancestral(model, sample_noise(7, range(5), (1, 4, 4), model.steps))
    alone = ancestral(model, sample_noise(7, [3], (1, 4, 4), model.steps))
    torch.testing.assert_close(together[3:4], alone, rtol=1e-5, atol=1e-6)


def test_exact_noise_is_the_posterior_mean_by_brute_force(random):
    memories = torch.rand(7, 1, 2, 3, generator=random, dtype=torch.float64) * 2 - 1
    betas = linear_betas()
    alpha_bar = torch.cumprod(1 - betas, 0)
    network = ExactNoise((1, 2, 3), alpha_bar, memories).double()
    network.memories = memories.reshape(7, -1)
    x = torch.randn(4, 1, 2, 3, generator=random, dtype=torch.float64)
    t = torch.tensor([0, 50, 400, 999])
    found = network(x, t)
    for b in range(4):
        scale, sigma = alpha_bar[t[b]].sqrt(), (1 - alpha_bar[t[b]]).sqrt()
        noises = [(x[b] - scale * xi) / sigma for xi in memories]
        logs = torch.stack([-(n**2).sum() / 2 for n in noises])
        weights = (logs - logs.max()).exp()
        expected = sum(w * n for w, n in zip(weights, noises, strict=True)) / weights.sum()
        torch.testing.assert_close(found[b], expected, rtol=1e-8, atol=1e-8)


def test_exact_denoiser_recalls_its_memories(random):
    memories = torch.rand(5, 1, 3, 3, generator=random) * 2 - 1
    model = exact_model(memories)
    samples = ancestral(model, sample_noise(1, range(20), (1, 3, 3), 1000))
    distance = torch.cdist(samples.flatten(1), memories.flatten(1)).min(1).values
    assert distance.max() < 1e-3


def test_linear_noise_is_the_posterior_mean_of_gaussian_images(random):
    """E[noise | x] by conditioning the joint Gaussian of (noise, x), whose covariances are known."""
    images = torch.rand(9, 1, 2, 3, generator=random, dtype=torch.float64) * 2 - 1
    alpha_bar = torch.cumprod(1 - linear_betas(), 0)
    network = LinearNoise((1, 2, 3), alpha_bar, images)
    mean, covariance = images.reshape(9, 6).mean(0), torch.cov(images.reshape(9, 6).T, correction=0)
    x, t = torch.randn(4, 1, 2, 3, generator=random, dtype=torch.float64), torch.tensor([0, 50, 400, 999])
    found = network(x, t)
    for b, time in enumerate(t):
        scale, variance = alpha_bar[time].sqrt(), 1 - alpha_bar[time]
        joint = scale**2 * covariance + variance * torch.eye(6)
        expected = variance.sqrt() * torch.linalg.solve(joint, x[b].flatten() - scale * mean)
        torch.testing.assert_close(found[b].flatten(), expected, rtol=2e-4, atol=2e-5)


def test_samples_of_the_linear_denoiser_have_the_mean_and_covariance_of_its_images(random):
    images = torch.randn(400, 1, 1, 3, generator=random) @ torch.tensor([[0.3, 0.1, 0], [0, 0.05, 0], [0.1, 0, 0.2]])
    betas = linear_betas()
    model = Diffusion(LinearNoise((1, 1, 3), torch.cumprod(1 - betas, 0), images), betas)
    samples = ancestral(model, sample_noise(1, range(4000), (1, 1, 3), 1000)).flatten(1)
    flat = images.flatten(1)
    torch.testing.assert_close(samples.mean(0), flat.mean(0), rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(samples.T), torch.cov(flat.T), rtol=0, atol=0.01)
