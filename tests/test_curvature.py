"""Algs. 2 and 3 against a full singular value decomposition, and spectra of exact denoisers in closed form."""

import math

import builders
import numpy as np
import pytest
import torch
from builders import exact_model

from attractors.denoisers.diffusion import Diffusion, forward_process, linear_betas
from attractors.landscape.curvature import central_difference, jacobian, one_sided
from attractors.landscape.summaries import degrees_of_freedom, effective_rank, spectral_gap
from attractors.randomness import CURVATURE, generator

SHAPE, N = (1, 3, 4), 12
BETAS = linear_betas()
ALPHA_BAR = torch.cumprod(1 - BETAS, 0)
T = 2
SIGMA = (1 - ALPHA_BAR[T]).sqrt().item()


def learned_model(shape):
    """In float64, so that spectra can be held to six digits."""
    model = builders.learned_model(shape)
    model.network.time_features = model.network.time_features.double()
    return model.double()


def images(count, seed=0):
    return builders.images(count, SHAPE, seed).double()


def noise_of(index, seed=5):
    """The 4N perturbations of pattern number `index`: [4N, C, H, W]."""
    return torch.from_numpy(generator(seed, CURVATURE, index).standard_normal((4 * N, *SHAPE), np.float32)).double()


def full_svd(model, x, noise, central):
    """Lines 7-17 of Alg. 2 (7-15 of Alg. 3): M column by column, decomposed in float64."""
    columns = []
    for epsilon in noise:
        t = torch.tensor(T)
        plus = model.score(forward_process(x[None], epsilon[None], t, model.alpha_bar), t)
        minus = model.score(forward_process(x[None], -epsilon[None], t, model.alpha_bar), t)
        columns.append(((plus - minus) / 2 if central else plus).flatten())
    return torch.linalg.svdvals(torch.stack(columns, 1).double())


@pytest.mark.parametrize("batch", [1, 7, 48, 100, 10_000])
@pytest.mark.parametrize("algorithm, central", [(central_difference, True), (one_sided, False)], ids=["2", "3"])
def test_algs_2_and_3_streamed_equal_a_full_svd(algorithm, central, batch):
    model, patterns, indices = learned_model(SHAPE), images(5), [4, 0, 2**40, 17, 3]
    expected = torch.stack([full_svd(model, x, noise_of(i), central) for x, i in zip(patterns, indices, strict=True)])
    found = algorithm(model, patterns, indices, 5, batch=batch)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert (expected[:, 0] / expected[:, -1] > 3).all()


def test_alg_2_of_a_single_memory_is_the_noise_over_sigma():
    # score = -(x - sqrt(alpha_bar) xi) / sigma^2, so column i is -epsilon_i / sigma wherever the pattern lies.
    found = central_difference(exact_model(images(1)), images(2, seed=1), [3, 9], 5)
    expected = torch.stack([torch.linalg.svdvals(noise_of(i).flatten(1).double()) / SIGMA for i in (3, 9)])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_alg_3_adds_the_score_of_the_pattern_to_every_column():
    memory, pattern = images(1), images(1, seed=1)
    columns = -noise_of(3).flatten(1) / SIGMA - ALPHA_BAR[T].sqrt() * (pattern - memory).flatten() / SIGMA**2
    found = one_sided(exact_model(memory), pattern, [3], 5)
    torch.testing.assert_close(found[0], torch.linalg.svdvals(columns), rtol=1e-6, atol=0)
    assert found[0, 0] == pytest.approx(math.sqrt(4 * N) * (pattern - memory).norm().item() / SIGMA**2, rel=0.01)


def test_jacobian_of_a_single_memory_is_all_equal_to_one_over_sigma_squared():
    values, trace = jacobian(exact_model(images(1)), images(3, seed=1))
    torch.testing.assert_close(values, torch.full((3, N), SIGMA**-2, dtype=torch.float64), rtol=1e-6, atol=0)
    np.testing.assert_allclose(degrees_of_freedom(trace.numpy(), SIGMA, N), 0, atol=1e-6)
    assert spectral_gap(values.numpy())[0].tolist() == [0, 0, 0]  # no drop: no manifold
    np.testing.assert_allclose(effective_rank(values.numpy()), N, rtol=1e-7)


@pytest.mark.parametrize("share", [0.5, 0.2, 0.01])
def test_jacobian_of_two_memories_differs_in_the_one_direction_that_joins_them(share):
    # score = -(x - sqrt(a) (w_1 xi_1 + w_2 xi_2)) / sigma^2 with d w_1 / dx = sqrt(a) w_1 w_2 (xi_1 - xi_2) / sigma^2:
    # along xi_1 - xi_2 the Jacobian is -1 / sigma^2 + a w_1 w_2 |xi_1 - xi_2|^2 / sigma^4, elsewhere -1 / sigma^2.
    memories, a = images(2), ALPHA_BAR[T].item()
    memories[1] = memories[0] + 0.01 * (memories[1] - memories[0])  # close, so that both weigh at t = 2
    memories = memories.float().double()  # as the model holds them
    apart = (memories[1] - memories[0]).flatten()
    square = apart.dot(apart).item()
    # The point on the line between them where memory 2 has this share of the weight.
    along = 0.5 + SIGMA**2 / (a * square) * math.log(share / (1 - share))
    pattern = (memories[0] + along * apart.reshape(SHAPE))[None]
    values, trace = jacobian(exact_model(memories), pattern)
    joining = -1 / SIGMA**2 + a * share * (1 - share) * square / SIGMA**4
    expected = torch.tensor([abs(joining), *[SIGMA**-2] * (N - 1)], dtype=torch.float64).sort(descending=True).values
    torch.testing.assert_close(values[0], expected, rtol=1e-6, atol=0)
    kept = a * share * (1 - share) * square / SIGMA**2  # of what moves along the line, the part the denoiser keeps
    assert degrees_of_freedom(trace.numpy(), SIGMA, N).item() == pytest.approx(kept, abs=1e-6)


def test_algs_2_and_3_estimate_the_jacobian_within_marchenko_pastur():
    # M = sigma J E: its values lie between sigma (sqrt(4N) -+ sqrt(N)) times the extreme values of J.
    model, patterns = learned_model(SHAPE), images(4)
    values, _ = jacobian(model, patterns)
    found = central_difference(model, patterns, range(4), 5) / SIGMA
    assert (found[:, 0] < 1.1 * math.sqrt(N) * 3 * values[:, 0]).all()
    assert (found[:, -1] > 0.9 * math.sqrt(N) * values[:, -1]).all()
    # And E E^T is 4N on average, so the sums of squares agree.
    ratio = found.square().sum() / (4 * N * values.square().sum())
    assert ratio.item() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("batch", [7, 30, 1000])
def test_jacobian_equals_finite_differences_whatever_the_batch(batch):
    model, patterns = learned_model(SHAPE), images(3)
    step, t = 1e-6, torch.tensor(T)
    centres = model.alpha_bar[T].sqrt() * patterns
    for centre, found, trace in zip(centres, *jacobian(model, patterns, batch=batch), strict=True):
        bumps = step * torch.eye(N, dtype=torch.float64).reshape(-1, *SHAPE)
        columns = (model.score(centre + bumps, t) - model.score(centre - bumps, t)).flatten(1) / (2 * step)
        torch.testing.assert_close(found, torch.linalg.svdvals(columns), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(trace, columns.trace(), rtol=1e-5, atol=1e-5)


def test_flat_manifold_has_its_dimension_as_gap_and_as_degrees_of_freedom():
    # Gaussian data of variance v in d directions and none in the others: J = -1 / (a v + sigma^2) and -1 / sigma^2.
    d, v, a = 3, 0.5, ALPHA_BAR[T].item()
    axes = torch.linalg.qr(torch.from_numpy(np.random.default_rng(0).standard_normal((N, N)))).Q
    variances = torch.tensor([v] * d + [0.0] * (N - d), dtype=torch.float64)

    class Gaussian(torch.nn.Module):
        def forward(self, x, t):
            precision = axes @ torch.diag(1 / (a * variances + SIGMA**2)) @ axes.T
            return (SIGMA * x.flatten(1) @ precision).reshape(x.shape)

    values, trace = jacobian(Diffusion(Gaussian(), BETAS), images(2))
    expected = torch.tensor([SIGMA**-2] * (N - d) + [1 / (a * v + SIGMA**2)] * d, dtype=torch.float64)
    torch.testing.assert_close(values, expected.expand(2, N), rtol=1e-6, atol=1e-9)
    dimension, gap = spectral_gap(values.numpy())
    assert dimension.tolist() == [d, d]
    np.testing.assert_allclose(gap, (a * v + SIGMA**2) / SIGMA**2, rtol=1e-6)
    kept = d * a * v / (a * v + SIGMA**2)
    np.testing.assert_allclose(degrees_of_freedom(trace.numpy(), SIGMA, N), kept, rtol=1e-6)


def test_spectral_gap_passes_over_the_top_values_and_finds_the_drop_below():
    values = np.array([[9e4, 9e2, 50, 49, 48, 10, 9, 8, 1, 0.9], [9e4, 9e2, 50, 49, 48, 10, 9, 8, 7, 6]])
    dimension, gap = spectral_gap(values)
    assert dimension.tolist() == [2, 0]
    np.testing.assert_allclose(gap, [8, 7 / 6])
    assert spectral_gap(values, skip=0)[0].tolist() == [9, 9]


def test_effective_rank_of_one_and_of_equal_values():
    values = np.array([[1.0, 0, 0, 0], [2, 2, 0, 0], [3, 3, 3, 3]])
    np.testing.assert_allclose(effective_rank(values), [1, 2, 4])
