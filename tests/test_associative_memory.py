"""Oracles: two memories and a circle of them in closed form, finite differences, literal sums."""

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize

from attractors.theory.associative_memory import (
    attractors,
    circle_energy,
    circle_gradient,
    circle_radius,
    circle_score,
    energy,
    exact_attractors,
    gradient,
    hessian,
    inverse_temperature,
    local_minima,
    log_density,
    merging_probability,
    retrieved,
    ripple,
    score,
)


def points(count, dimension=2, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dimension))


def on_circle(count, seed=0):
    phi = np.random.default_rng(seed).uniform(0, 2 * np.pi, count)
    return np.stack([np.cos(phi), np.sin(phi)], 1)


def differences(f, x, h=1e-5):
    """d f / d x_j by central differences, as the last axis."""
    steps = h * np.eye(x.shape[1])
    return np.stack([(f(x + step) - f(x - step)) / (2 * h) for step in steps], -1)


def test_energy_of_eq_5_and_eq_6_equal_their_literal_sums():
    x, memories, t, sigma = points(4), points(6, seed=1), 0.3, 0.7
    for i, place in enumerate(x):
        squares = [sum((a - b) ** 2 for a, b in zip(place, xi, strict=True)) for xi in memories]
        eq_6 = -np.log(sum(np.exp(-2.5 * s) for s in squares)) / 2.5
        eq_5 = -2 * sigma**2 * t * np.log(sum(np.exp(-s / (2 * sigma**2 * t)) for s in squares))
        assert energy(x, memories, 2.5)[i] == pytest.approx(eq_6, rel=1e-12)
        assert energy(x, memories, inverse_temperature(t, sigma))[i] == pytest.approx(eq_5, rel=1e-12)


def test_density_of_eq_4_integrates_to_one():
    memories, axis = points(5), np.linspace(-6, 6, 241)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    assert np.exp(log_density(grid, memories, inverse_temperature(0.2))).sum() * 0.05**2 == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("beta", [0.3, 3.0, 30.0])
def test_gradient_hessian_and_score_equal_finite_differences(beta):
    x, memories = points(5, 3), points(7, 3, seed=1)
    np.testing.assert_allclose(gradient(x, memories, beta), differences(lambda y: energy(y, memories, beta), x),
                               atol=1e-7)
    np.testing.assert_allclose(hessian(x, memories, beta), differences(lambda y: gradient(y, memories, beta), x),
                               atol=1e-6)
    np.testing.assert_allclose(score(x, memories, beta), differences(lambda y: log_density(y, memories, beta), x),
                               atol=1e-6)


def test_a_single_memory_has_the_energy_of_a_parabola_at_any_beta():
    x, memory = points(5), points(1, seed=1)
    for beta in (1e-3, 1.0, 1e6):
        np.testing.assert_allclose(energy(x, memory, beta), ((x - memory) ** 2).sum(1), rtol=1e-12)


def test_no_overflow_at_large_beta():
    x, memories = 100 * points(4), points(6, seed=1)
    nearest = ((x[:, None] - memories) ** 2).sum(-1)
    np.testing.assert_allclose(energy(x, memories, 1e6), nearest.min(1), rtol=1e-9)
    np.testing.assert_allclose(gradient(x, memories, 1e6), 2 * (x - memories[nearest.argmin(1)]), rtol=1e-9)


def test_retrieval_steps_never_raise_the_energy():
    x, memories = points(50), on_circle(9)
    for _ in range(20):
        later = retrieved(x, memories, 4.0)
        assert (energy(later, memories, 4.0) <= energy(x, memories, 4.0) + 1e-12).all()
        x = later


@pytest.mark.parametrize(("product", "expected"), [(0.5, 1), (1.9, 1), (1.999, 1), (2.01, 2), (2.2, 2), (20, 2)])
def test_two_memories_have_one_minimum_at_their_midpoint_while_beta_times_squared_distance_is_at_most_2(
    product, expected
):
    # Along the line through them E = s^2 + d^2/4 - log(2 cosh(beta s d)) / beta; E''(0) = 2 - beta d^2.
    beta, memories = 3.0, np.array([[0.0, 0.0], [0.6, 0.8]]) * np.sqrt(product / 3.0)
    minima, shared = exact_attractors(memories, beta, points(20))
    assert len(minima) == expected
    if expected == 1:
        np.testing.assert_allclose(minima[0], memories.mean(0), atol=1e-6)
        assert shared.tolist() == [2]  # the spurious state of Eq. 7
    else:
        assert shared.tolist() == [1, 1]
        np.testing.assert_allclose(minima.mean(0), memories.mean(0), atol=1e-6)


def test_two_memories_at_distance_d_have_minima_where_s_equals_half_d_tanh_beta_s_d():
    beta, d = 3.0, 1.2
    minima, _ = exact_attractors(np.array([[-d / 2, 0.0], [d / 2, 0.0]]), beta, points(4))
    s = np.abs(minima[:, 0])
    np.testing.assert_allclose(s, d / 2 * np.tanh(beta * s * d), rtol=1e-7)
    # The curvature at their midpoint is 2 - beta d^2.
    memories = np.array([[0.0, 0.0], [0.6, 0.8]])
    values = np.linalg.eigvalsh(hessian(memories.mean(0)[None], memories, 1.7)[0])
    np.testing.assert_allclose(values, [2 - 1.7, 2], rtol=1e-12)


@pytest.mark.parametrize("t", [0.02, 0.15])
def test_minima_of_nine_memories_equal_those_of_a_fine_grid_polished_by_bfgs(t):
    memories, beta, n = on_circle(9, seed=3), inverse_temperature(t), 501
    axis = np.linspace(-1.3, 1.3, n)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    E = energy(grid.reshape(-1, 2), memories, beta).reshape(n, n)
    inner = E[1:-1, 1:-1]
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    lower = np.all([inner < E[1 + i : n - 1 + i, 1 + j : n - 1 + j] for i, j in shifts], axis=0)
    of_one = lambda y: energy(y[None], memories, beta)[0], lambda y: gradient(y[None], memories, beta)[0]
    polished = [minimize(of_one[0], place, jac=of_one[1], method="BFGS", options={"gtol": 1e-10}).x
                for place in grid[1:-1, 1:-1][lower]]
    expected = np.unique(np.round(polished, 5), axis=0)
    minima, shared = exact_attractors(memories, beta, np.zeros((1, 2)))
    assert len(minima) == len(expected)
    assert shared.sum() == 9
    np.testing.assert_allclose(minima[np.lexsort(minima.T[::-1])], expected, atol=2e-5)


def test_minimum_between_memories_that_none_descends_into_is_found_from_elsewhere():
    # A quartic in the plane with minima at (-1, 0), (1, 0); the one memory lies in the left basin.
    def slope(x):
        return np.stack([x[:, 0] ** 3 - x[:, 0], x[:, 1]], 1)

    def curvature(x):
        H = np.zeros((len(x), 2, 2))
        H[:, 0, 0], H[:, 1, 1] = 3 * x[:, 0] ** 2 - 1, 1
        return H

    minima, shared = attractors(np.array([[-0.9, 0.1]]), slope, curvature, 1.0, np.array([[0.3, 0.5]]))
    np.testing.assert_allclose(minima, [[-1, 0], [1, 0]], atol=1e-9)
    assert shared.tolist() == [1, 0]


def test_descent_leaves_a_saddle_that_it_does_not_start_on_and_says_where_it_ends_nowhere():
    def descent(start, memories, beta=3.0):
        return local_minima(np.array(start), lambda x: gradient(x, memories, beta),
                            lambda x: hessian(x, memories, beta), (2 * beta) ** -0.5)

    d = np.sqrt(2.02 / 3.0)  # they just separate
    minima, index = descent([[-1e-3, 0.0], [1e-3, 0.0]], np.array([[-d / 2, 0.0], [d / 2, 0.0]]))
    assert index.tolist() == [0, 1]
    assert minima[0, 0] < -0.01 < 0.01 < minima[1, 0]
    minima, index = descent([[0.0, 0.0]], np.array([[-1.0, 0.0], [1.0, 0.0]]))
    assert (len(minima), index.tolist()) == (0, [-1])
    minima, index = local_minima(np.zeros((3, 1)), np.ones_like, lambda x: np.zeros((len(x), 1, 1)), 1.0)  # E = x
    assert (minima.shape, index.tolist()) == ((0, 1), [-1, -1, -1])


@pytest.mark.parametrize("beta", [0.5, 10 / 3, 20.0])
@pytest.mark.parametrize("R", [0.0, 0.4, 1.0, 1.7])
def test_circle_energy_of_eq_8_equals_quadrature_over_the_circle(R, beta):
    mean, _ = quad(lambda phi: np.exp(-beta * (R**2 + 1 - 2 * R * np.cos(phi))) / (2 * np.pi), 0, 2 * np.pi)
    assert circle_energy(R, beta) == pytest.approx(-np.log(mean) / beta, rel=1e-7)


def test_circle_energy_is_the_limit_of_eq_6_for_many_equidistant_memories():
    phi = np.linspace(0, 2 * np.pi, 4000, endpoint=False)
    memories, x = np.stack([np.cos(phi), np.sin(phi)], 1), points(10)
    expected = energy(x, memories, 20.0) + np.log(len(phi)) / 20.0  # Eq. 6 sums, Eq. 15 averages
    np.testing.assert_allclose(circle_energy(np.linalg.norm(x, axis=1), 20.0), expected, rtol=1e-10)
    np.testing.assert_allclose(circle_score(x, 20.0), score(x, memories, 20.0), rtol=1e-8, atol=1e-10)


def test_circle_at_beta_1e6_equals_arbitrary_precision_and_the_parabola():
    R = np.array([0.3, 0.9, 1.0, 1.5])
    with mpmath.workdps(60):
        expected = [float(r**2 + 1 - mpmath.log(mpmath.besseli(0, 2 * 10**6 * mpmath.mpf(r))) / 10**6) for r in R]
    np.testing.assert_allclose(circle_energy(R, 1e6), expected, atol=1e-12)
    np.testing.assert_allclose(circle_energy(R, 1e6), (R - 1) ** 2, atol=2e-5)
    np.testing.assert_allclose(circle_gradient(R, 1e6), 2 * (R - 1), atol=2e-6)


def test_circle_gradient_of_eq_17_and_score_of_eq_18_times_beta_equal_finite_differences():
    R, x, beta = np.array([[0.2], [0.9], [1.6]]), points(6), 4.0
    np.testing.assert_allclose(circle_gradient(R[:, 0], beta),
                               differences(lambda r: circle_energy(r[:, 0], beta), R)[:, 0], atol=1e-8)
    log_p = differences(lambda y: -beta * circle_energy(np.linalg.norm(y, axis=1), beta), x)
    np.testing.assert_allclose(circle_score(x, beta), log_p, atol=1e-8)
    assert (circle_score(np.zeros((1, 2)), beta) == 0).all()


def test_circle_radius_is_zero_up_to_beta_1_and_solves_eq_17_beyond():
    assert circle_radius(0.7) == circle_radius(1.0) == 0
    for beta in (1.01, 10 / 3, 20.0, 1e6):
        R = circle_radius(beta)
        assert 0 < R < 1
        assert abs(circle_gradient(R, beta)) < 1e-10
        nearby = circle_energy(np.array([R * 0.99, R, R * 1.01]), beta)
        assert nearby.argmin() == 1
    assert circle_radius(1e6) == pytest.approx(1, abs=1e-6)


def test_merging_probability_equals_the_share_of_random_sets_with_close_neighbours():
    random, beta, trials = np.random.default_rng(0), inverse_temperature(0.05), 20_000
    for K in (2, 4, 7):
        phi = np.sort(random.uniform(0, 2 * np.pi, (trials, K)), 1)
        gaps = np.diff(np.concatenate([phi, phi[:, :1] + 2 * np.pi], 1), axis=1)
        chord = 2 * np.sin(np.minimum(gaps, np.pi) / 2).min(1)
        share = (beta * chord**2 <= 2).mean()
        assert merging_probability(K, beta) == pytest.approx(share, abs=4 * 0.5 / trials**0.5)
    assert merging_probability(1, beta) == 0
    # Of two points it predicts whether they share a minimum.
    beta = inverse_temperature(0.15)
    shared = [len(exact_attractors(on_circle(2, seed), beta, np.zeros((1, 2)))[0]) == 1 for seed in range(200)]
    assert np.mean(shared) == pytest.approx(merging_probability(2, beta), abs=0.1)


def test_ripple_is_the_range_of_log_probability():
    log_p = np.array([-1.0, 2.5, 0.3])
    assert ripple(-log_p / 4.0, 4.0) == pytest.approx(3.5)


@pytest.mark.parametrize(("t", "sigma"), [(0, 1.0), (-1, 1.0), (0.1, 0)])
def test_times_and_sigmas_that_are_not_positive_are_refused(t, sigma):
    with pytest.raises(ValueError, match="must be positive"):
        inverse_temperature(t, sigma)
