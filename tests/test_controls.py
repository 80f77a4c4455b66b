"""The smoothed and the local denoiser against the exact one, brute force and numerical integration."""

import numpy as np
import pytest
import torch

from attractors.denoisers.models import new_model, read_model, write_model
from attractors.states.controls import control_samples

SHAPE, K = (2, 4, 5), 7
MEMORIES = torch.rand(K, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def model(**network):
    return new_model(network, {}, SHAPE, 3, MEMORIES)


def states(t, count=6):
    random = torch.Generator().manual_seed(1)
    x_0 = MEMORIES[torch.arange(count) % K]
    alpha_bar = model(name="exact").alpha_bar[t]
    return (alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * torch.randn(x_0.shape, generator=random)).double()


@pytest.mark.parametrize("t", [3, 150, 600])
@pytest.mark.parametrize(
    "network",
    [{"name": "smoothed", "width": 0.0}, {"name": "smoothed", "width": 0.0, "kernel": "images"},
     {"name": "local", "side": 9}, {"name": "local", "per_noise": 1e9}],
    ids=["width 0", "images of width 0", "whole image", "whole image by noise"],
)
def test_the_limit_of_each_control_is_the_exact_denoiser(network, t):
    x, exact = states(t), model(name="exact")
    torch.testing.assert_close(model(**network).denoised(x, t), exact.denoised(x, t), rtol=1e-5, atol=1e-6)


def test_smoothed_images_are_a_density_estimate():
    """The score is the gradient of the logarithm of a mixture of Gaussians, by finite differences."""
    smoothed, t, h = model(name="smoothed", width=0.2, kernel="images"), 200, 0.2
    x = states(t, 2)
    a = smoothed.alpha_bar[t]

    def log_density(y):
        squares = (y.flatten(1)[:, None] - a.sqrt() * MEMORIES.flatten(1).double()).square().sum(2)
        return torch.logsumexp(-squares / (2 * (1 - a + a * h**2)), 1)

    step = torch.zeros_like(x[:1])
    step[0, 1, 2, 3] = 1e-4
    slope = (log_density(x + step) - log_density(x - step)) / 2e-4
    torch.testing.assert_close(smoothed.score(x, t)[:, 1, 2, 3], slope, rtol=1e-5, atol=1e-6)


def test_smoothed_input_is_the_average_of_the_exact_denoiser_over_displacements():
    t, h, draws = 300, 0.3, 500
    smoothed = model(name="smoothed", width=h, draws=draws)
    x, exact = states(t, 3), model(name="exact")
    z = torch.randn(4000, *SHAPE, generator=torch.Generator().manual_seed(5)).double()
    expected = torch.stack([exact.denoised(row + exact.alpha_bar[t].sqrt() * h * z, t).mean(0) for row in x])
    error = (smoothed.denoised(x, t) - expected).abs().max()
    assert error < 0.03 < (exact.denoised(x, t) - expected).abs().max()


@pytest.mark.parametrize("place", ["same", "any"])
@pytest.mark.parametrize("side", [1, 3, 5])
def test_the_local_denoiser_equals_loops_over_pixels(place, side):
    t, r = 250, side // 2
    local, x = model(name="local", side=side, place=place), states(t, 2)
    a, got = local.alpha_bar[t], local.denoised(states(t, 2), t)
    padded, known = (np.pad(part.double().numpy(), ((0, 0), (0, 0), (r, r), (r, r))) for part in (x, MEMORIES))
    for b in range(2):
        for i in range(SHAPE[1]):
            for j in range(SHAPE[2]):
                places = [(i, j)] if place == "same" else list(np.ndindex(SHAPE[1:]))
                box, logs, values = padded[b, :, i : i + side, j : j + side], [], []
                for mu in range(K):
                    for k, m in places:
                        square = (box - float(a.sqrt()) * known[mu, :, k : k + side, m : m + side]) ** 2
                        logs.append(-square.sum() / (2 * float(1 - a)))
                        values.append(MEMORIES[mu, :, k, m].numpy())
                weights = np.exp(np.array(logs) - max(logs))
                np.testing.assert_allclose(got[b, :, i, j], weights @ values / weights.sum(), rtol=1e-4, atol=1e-5)


def test_boxes_grow_with_the_noise_level_and_stay_odd():
    sides = model(name="local", side=3, per_noise=4).network.sides(torch.arange(1000)).tolist()
    levels = ((1 - model(name="exact").alpha_bar) / model(name="exact").alpha_bar).sqrt()
    assert sides[0] == 3 and sides[-1] == 9 and sides == sorted(sides) and all(side % 2 for side in sides)
    assert all(abs(side - 4 * level) <= 1 for side, level in zip(sides, levels, strict=True) if 3 < side < 9)


def test_a_written_control_is_read_back(tmp_path):
    for network in ({"name": "smoothed", "width": 0.3}, {"name": "local", "side": 5, "place": "any"}):
        record = {"network": network, "diffusion": {}, "image_shape": list(SHAPE), "size": K, "seed": 3}
        write_model(tmp_path / "m", model(**network).state_dict(), **record)
        x = states(100)
        assert torch.equal(read_model(tmp_path / "m")[0].denoised(x, 100), model(**network).denoised(x, 100))


def test_samples_of_smoothed_images_scatter_about_a_memory_as_the_kernel_does():
    """Whatever the sweep's own network predicts: distances are h sqrt(N), and sqrt(2) times that between samples."""
    h, far = 0.1, torch.stack([torch.full(SHAPE, -0.8), torch.full(SHAPE, 0.8)])
    network = {"name": "smoothed", "width": h, "kernel": "images"}
    samples = control_samples(network, {"prediction": "velocity"}, far, 60, 500, 1).reshape(60, -1)
    distances = np.linalg.norm(samples[:, None] - far.reshape(2, -1).numpy(), axis=2)
    nearest, scale = distances.argmin(1), h * samples.shape[1] ** 0.5
    pairs = [np.linalg.norm(samples[i] - samples[j]) for i in range(60) for j in range(i) if nearest[i] == nearest[j]]
    assert distances.min(1).mean() == pytest.approx(scale, rel=0.1)
    assert np.mean(pairs) == pytest.approx(2**0.5 * scale, rel=0.1)
