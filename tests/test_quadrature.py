"""Spectra by Lanczos quadrature against full ones, and against what Gauss's quadrature promises."""

import numpy as np
import pytest
import torch
from builders import exact_model, learned_model

from attractors.landscape.curvature import jacobian
from attractors.landscape.quadrature import bidiagonal, distribution, spectrum

T = 300


def matrix_and_starts(dimensions=40, starts=3):
    random = torch.Generator().manual_seed(1)
    matrix = torch.randn(dimensions, dimensions, generator=random, dtype=torch.float64)
    v = torch.randn(starts, dimensions, generator=random, dtype=torch.float64)
    return matrix, v / v.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("side, steps", [(8, 16), (28, 48)])
def test_a_spectrum_lies_within_its_errors_of_the_full_one(side, steps):
    model = learned_model((1, side, side), width=96)
    x = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(2))
    full = jacobian(model, x, T)[0][0].flip(0)
    found = spectrum(model, x, 4, steps, 3407, t=T)
    share = torch.searchsorted(full, found.values, right=True) / len(full)
    error = (found.share - share).abs()
    assert (error <= 5 * found.share_se + found.resolution).all()
    assert found.resolution.median() < 5 / steps  # and this says something
    for quantile in (0.25, 0.5, 0.75):
        value, off = found.quantile(quantile)
        assert abs(value - full.quantile(quantile)) < 2 * off < value
    assert found.values[-1] == pytest.approx(full[-1].item(), rel=0.02)


def test_the_standard_error_is_that_of_random_starts():
    matrix, starts = matrix_and_starts(40, 400)
    found = bidiagonal(lambda v: v @ matrix.T, lambda u: u @ matrix, starts, 40)  # all nodes: no other error
    apart = [distribution(part[None], 40) for part in found]
    for quantile in (0.1, 0.5):
        at = torch.linalg.svdvals(matrix).quantile(quantile)
        shares = np.array([np.interp(at, each.values, each.share) for each in apart])
        together = distribution(found[:4], 40)
        expected = 2 * np.interp(at, together.values, together.share_se)  # of 4 starts, from that of 1
        assert shares.std() == pytest.approx(expected, rel=0.2)


def test_gauss_quadrature_is_exact_for_polynomials_and_its_bounds_hold():
    (matrix, starts), steps = matrix_and_starts(), 7
    found = bidiagonal(lambda v: v @ matrix.T, lambda u: u @ matrix, starts, steps)
    _, nodes, vectors = torch.linalg.svd(found)
    weights = vectors[:, :, 0].square()
    values, directions = torch.linalg.eigh(matrix.T @ matrix)
    along = (starts @ directions).square()  # [B, N], the measure that is integrated
    for power in range(2 * steps):  # in the squares of singular values
        exact = (along * values**power).sum(1)
        torch.testing.assert_close((weights * nodes ** (2 * power)).sum(1), exact, rtol=1e-9, atol=0)
    whole = distribution(found, 40)
    place = torch.searchsorted(values.sqrt(), whole.values, right=True)
    exact = torch.nn.functional.pad(along.cumsum(1), (1, 0))[:, place].mean(0)
    assert ((whole.share - exact).abs() <= whole.resolution + 1e-9).all()
    single = distribution(found[:1], 40)
    place = torch.searchsorted(values.sqrt(), single.values, right=True)
    off = (single.share - along[0].cumsum(0)[place - 1]).abs()
    assert (off <= weights[0].flip(0) / 2 + 1e-9).all()  # at a node, half of its own weight


def test_starts_are_taken_apart_and_long_runs_stay_orthogonal():
    matrix, starts = matrix_and_starts()
    together = bidiagonal(lambda v: v @ matrix.T, lambda u: u @ matrix, starts, 40)
    alone = bidiagonal(lambda v: v @ matrix.T, lambda u: u @ matrix, starts[1:2], 40)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-6, atol=1e-9)
    expected = torch.linalg.svdvals(matrix)
    torch.testing.assert_close(torch.linalg.svdvals(together), expected.expand(3, -1), rtol=1e-8, atol=1e-9)


def test_a_single_memory_has_one_singular_value():
    # score = -(x - sqrt(alpha_bar) xi) / sigma^2: the first step has found everything, and the rest is rounding.
    memory = torch.rand(1, 1, 4, 4)
    found = spectrum(exact_model(memory), memory, 2, 6, 0, t=T)
    value = exact_model(memory).sigma(torch.tensor(T)).item() ** -2
    assert found.quantile(0.5)[0] == pytest.approx(value, rel=1e-5)
    assert np.interp(1.001 * value, found.values, found.share) - np.interp(
        0.999 * value, found.values, found.share
    ) > 0.49


@pytest.mark.parametrize("starts, steps", [(0, 4), (2, 0), (2, 17)])
def test_too_few_starts_and_too_many_steps_are_refused(starts, steps):
    memory = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match=f"{starts} starts and {steps} steps: .* 1 to 16 steps"):
        spectrum(exact_model(memory), memory, starts, steps, 0, t=T)
