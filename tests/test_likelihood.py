"""Oracles: Gaussian data (score, flow, samples, likelihood in closed form); the exact trace; one point at a time."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.stats import multivariate_normal

from attractors.theory.associative_memory import inverse_temperature, log_density
from attractors.theory.likelihood import (
    exact_divergence,
    flow,
    prior_log_density,
    reverse_sde,
)
from attractors.theory.toy import ScoreNetwork, on_circle
from attractors.theory.toy_landscape import empirical_field

MEAN, COVARIANCE = torch.tensor([0.5, -1.0]).double(), torch.tensor([[0.8, 0.3], [0.3, 0.4]]).double()


def gaussian_score(sigma):
    """grad log of N(MEAN, COVARIANCE + sigma^2 t I)."""

    def score(x, t):
        return -(x - MEAN) @ torch.linalg.inv(COVARIANCE + sigma**2 * t * torch.eye(2).double())

    return score


def gaussian_log_density(x, t, sigma):
    return multivariate_normal.logpdf(x, MEAN.numpy(), COVARIANCE.numpy() + sigma**2 * t * np.eye(2))


def network(dimension=2):
    """A score with every weight random, in float64."""
    model = ScoreNetwork(0, dimension, width=16, blocks=1, scale=0.5).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator).double()
    return model.requires_grad_(False)


def log_likelihood(field, x, t, sigma=1.0, prior=prior_log_density):
    x_T, integral = flow(field, x, t, sigma)
    return prior(x_T, sigma, 1.0) + integral


def points(count, dimension=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, dimension)))


@pytest.mark.parametrize(("sigma", "t"), [(1.0, 1e-5), (1.0, 0.15), (2.0, 0.3)])
def test_likelihood_of_gaussian_data_equals_its_closed_form(sigma, t):
    x = points(20)
    log_p = log_likelihood(exact_divergence(gaussian_score(sigma)), x, t, sigma,
                           prior=lambda x, sigma, T: gaussian_log_density(x, T, sigma))
    np.testing.assert_allclose(log_p, gaussian_log_density(x, t, sigma), atol=2e-5)


def test_the_sign_of_eq_24_is_plus_and_that_of_eq_31_is_not():
    x = points(5)
    x_T, integral = flow(exact_divergence(gaussian_score(1.0)), x, 0.1)
    grown = gaussian_log_density(x, 0.1, 1.0) - gaussian_log_density(x_T, 1.0, 1.0)
    np.testing.assert_allclose(integral, grown, atol=2e-5)
    assert (integral > 0).all()  # the flow expands


def test_flow_of_gaussian_data_scales_each_principal_axis_by_the_ratio_of_deviations():
    x, t, T = points(6), 0.05, 1.0
    x_T, _ = flow(exact_divergence(gaussian_score(1.0)), x, t)
    values, vectors = np.linalg.eigh(COVARIANCE.numpy())
    expected = (x.numpy() - MEAN.numpy()) @ vectors * np.sqrt((values + T) / (values + t)) @ vectors.T + MEAN.numpy()
    np.testing.assert_allclose(x_T, expected, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_the_prior_of_a_2_is_exact_for_a_single_memory_at_the_origin(sigma):
    x, t = points(10), 0.2
    log_p = log_likelihood(lambda x, t: (-x / (sigma**2 * t), -torch.full((len(x),), 2 / (sigma**2 * t))), x, t, sigma)
    np.testing.assert_allclose(log_p, multivariate_normal.logpdf(x, np.zeros(2), sigma**2 * t), atol=1e-5)


def test_the_prior_of_a_2_is_too_high_by_one_half_at_the_centre_of_the_unit_circle():
    # The flow keeps the centre; there p_T of a circle is exp(-R^2 / (2 sigma^2 T)) times the Gaussian's.
    memories, centre = on_circle(2 * np.pi * np.arange(100) / 100), torch.zeros(1, 2).double()
    log_p = log_likelihood(empirical_field(memories), centre, 0.15)
    assert log_p - log_density(centre.numpy(), memories, inverse_temperature(0.15)) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("t", [1e-3, 0.15])
def test_likelihood_with_the_exact_score_and_exact_p_T_equals_eq_4(t):
    memories = on_circle(np.random.default_rng(0).uniform(0, 2 * np.pi, 9))
    x = torch.from_numpy(memories[:5] + 0.5 * t**0.5)
    log_p = log_likelihood(empirical_field(memories), x, t,
                           prior=lambda x, sigma, T: log_density(x, memories, inverse_temperature(T, sigma)))
    exact = log_density(x.numpy(), memories, inverse_temperature(t))
    np.testing.assert_allclose(log_p, exact, atol=1e-4)


def test_prior_log_density_equals_scipy():
    x = points(7, 3).numpy()
    np.testing.assert_allclose(prior_log_density(x, 0.7, 2.0), multivariate_normal.logpdf(x, np.zeros(3), 0.98))


@pytest.mark.parametrize("dimension", [2, 3])
def test_exact_divergence_equals_the_trace_of_autograds_jacobian(dimension):
    model, x = network(dimension), points(5, dimension)
    value, divergence = exact_divergence(model)(x, 0.3)
    for i in range(len(x)):
        J = torch.autograd.functional.jacobian(lambda y: model(y[None], 0.3)[0], x[i])
        torch.testing.assert_close(divergence[i], torch.trace(J))
    torch.testing.assert_close(value, model(x, 0.3))


def test_the_batched_solution_equals_solve_ivp_on_one_point_at_a_time_to_1e_4():
    model, x, t = network(), points(12), 0.05

    def alone(place):
        def derivative(time, state):
            y = torch.from_numpy(state[None, :2])
            J = torch.autograd.functional.jacobian(lambda z: model(z[None], time)[0], y[0])
            return -0.5 * np.append(model(y, time)[0].numpy(), torch.trace(J).item())

        end = solve_ivp(derivative, (t, 1), np.append(place.numpy(), 0), rtol=1e-9, atol=1e-11).y[:, -1]
        return -(end[:2] @ end[:2]) / 2 - np.log(2 * np.pi) + end[2]

    together = log_likelihood(exact_divergence(model), x, t)
    np.testing.assert_allclose(together, [alone(place) for place in x], atol=1e-4)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_flow_that_cannot_be_integrated_is_an_error_in_one_line():
    def exploding(x, t):
        return -torch.exp(x**2), torch.zeros(len(x)).double()

    with pytest.raises(FloatingPointError, match=r"probability-flow ODE from t = 0.1 to 1 failed"):
        flow(exploding, 3 * torch.ones(1, 2).double(), 0.1)


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_samples_of_gaussian_data_have_its_mean_and_covariance(sigma):
    # sigma^2 dw, as Eq. 20 prints it, would be wrong by a factor of sigma^2 in the noise.
    count, T = 20_000, 400.0 / sigma**2  # sigma^2 T large enough for the prior to be right
    generator = torch.Generator().manual_seed(0)
    noise = (torch.randn(count, 2, generator=generator).double() for _ in range(4000))
    x = reverse_sde(gaussian_score(sigma), noise, sigma, T, steps=4000).numpy()
    np.testing.assert_allclose(x.mean(0), MEAN, atol=0.05)
    np.testing.assert_allclose(np.cov(x.T), COVARIANCE, atol=0.09)


def test_euler_maruyama_equals_its_literal_transcription():
    score, noise, steps, T, epsilon = gaussian_score(2.0), points(5 * 3, seed=2).reshape(5, 3, 2), 5, 1.0, 1e-5
    x, times = 2.0 * noise[0], np.linspace(T, epsilon, steps + 1)
    for i in range(steps):
        dt = times[i + 1] - times[i]  # negative: time runs backwards
        x = x - 2.0**2 * score(x, times[i]) * dt
        if i < steps - 1:
            x = x + 2.0 * abs(dt) ** 0.5 * noise[i + 1]
    torch.testing.assert_close(reverse_sde(score, iter(noise), 2.0, steps=5), x)


def test_samples_from_the_exact_score_of_two_memories_end_on_them():
    memories = on_circle(np.array([0.3, 2.5]))

    def score(x, t):
        return empirical_field(memories)(x, t)[0]

    generator = torch.Generator().manual_seed(0)
    noise = (torch.randn(500, 2, generator=generator).double() for _ in range(1000))
    x = reverse_sde(score, noise).numpy()
    distance = np.linalg.norm(x[:, None] - memories, axis=-1)
    assert distance.min(1).max() < 0.01
    assert abs((distance.argmin(1) == 0).mean() - 0.5) < 0.08
