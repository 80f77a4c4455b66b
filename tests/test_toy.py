"""The toy model: its points, objective and training; then the whole comparison run on the exact score as a control."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from builders import refused, run
from scipy.stats import kstest
from torch import nn

from attractors.arrays import read_arrays
from attractors.data.subsets import nested_order
from attractors.denoisers.training import train
from attractors.randomness import CIRCLE, generator
from attractors.settings.train import Training
from attractors.stages import toy_evaluate, toy_minima, toy_train
from attractors.tables import read_json
from attractors.theory import associative_memory
from attractors.theory.associative_memory import exact_attractors, inverse_temperature
from attractors.theory.toy import ScoreNetwork, circle, on_circle, score_jacobian, score_matching_loss
from attractors.theory.toy_landscape import (
    all_minima,
    cluster,
    compare,
    count_minima,
    empirical_field,
    energies,
    energy_error,
    grid,
    learned_attractors,
    learned_derivatives,
    score_error,
    share_near,
)


class ExactScore(nn.Module):
    """grad log p of Eq. 4 in the place of a network, in torch so that it has a Jacobian."""

    def __init__(self, memories, sigma=1.0):
        super().__init__()
        self.memories, self.sigma = torch.from_numpy(memories), sigma

    def forward(self, x, t):
        variance = self.sigma**2 * torch.as_tensor(t, dtype=x.dtype).reshape(-1, 1)
        squares = (x[:, None] - self.memories.to(x)).square().sum(-1)
        return (torch.softmax(-squares / (2 * variance), 1) @ self.memories.to(x) - x) / variance


def test_circle_points_are_nested_uniform_and_on_the_circle():
    points = circle(60_000, 3407)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-12)
    assert len(np.unique(points, axis=0)) == 60_000
    phi = np.arctan2(points[:, 1], points[:, 0])
    assert kstest(phi, "uniform", (-np.pi, 2 * np.pi)).pvalue > 0.01
    assert kstest(phi[:1000], "uniform", (-np.pi, 2 * np.pi)).pvalue > 0.01
    np.testing.assert_array_equal(points, circle(60_000, 3407))
    assert not np.array_equal(points, circle(60_000, 1))


def test_the_training_sets_are_prefixes_of_the_subset_order_of_all_points():
    drawn = on_circle(generator(3407, CIRCLE).uniform(0, 2 * np.pi, 60_000))
    np.testing.assert_array_equal(circle(60_000, 3407)[:9], drawn[nested_order(60_000, 3407)[:9]])


def test_the_network_is_a_function_of_the_seed_and_its_output_is_divided_by_sigma_sqrt_t():
    x, t = torch.randn(5, 2), torch.tensor([1e-5, 0.1, 0.2, 0.5, 1.0])
    one, two = ScoreNetwork(3, width=16), ScoreNetwork(3, width=16, sigma=2.0)
    for model in (one, two):
        nn.init.ones_(model.output.weight)
    torch.testing.assert_close(one(x, t), 2 * two(x, t))
    torch.testing.assert_close(one(x[:1], 0.25), one(x[:1], torch.tensor([0.25])))
    raw = {}
    one.output.register_forward_hook(lambda module, inputs, output: raw.update(output=output))
    torch.testing.assert_close(one(x, t), raw["output"] / t.sqrt()[:, None])
    assert len(one.encoder) == len(one.decoder) == 4
    assert not torch.equal(ScoreNetwork(4, width=16).input.weight, one.input.weight)


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_the_loss_of_the_exact_score_of_one_memory_is_zero_and_of_no_score_one(sigma, random):
    memory = np.array([[0.6, 0.8]])
    x_0 = torch.from_numpy(memory).float().expand(20_000, 2)
    assert score_matching_loss(ExactScore(memory, sigma), x_0, None, random) < 1e-4

    class Nothing(nn.Module):
        def __init__(self):
            super().__init__()
            self.sigma = sigma

        def forward(self, x, t):
            return torch.zeros_like(x)

    assert score_matching_loss(Nothing(), x_0, None, random).item() == pytest.approx(1, abs=0.04)


def test_the_exact_score_of_two_memories_beats_every_rescaling_of_it(random):
    memories = on_circle(np.array([0.3, 2.0]))
    x_0 = torch.from_numpy(memories).float().repeat(20_000, 1)
    exact = ExactScore(memories)

    def loss(factor):
        random.manual_seed(1)
        scaled = lambda x, t: factor * exact(x, t)  # noqa: E731
        scaled.sigma = 1.0
        return score_matching_loss(scaled, x_0, None, random).item()

    assert loss(1.0) < min(loss(0.9), loss(1.1))


SETTINGS = Training(iterations=300, batch=64, learning_rate=5e-3, repeat=True, ema=0.9, final_learning_rate=0.01)


def test_training_on_one_memory_finds_its_score():
    memory = np.array([[0.6, 0.8]])
    model = ScoreNetwork(0, width=32, blocks=1, scale=1.0)
    train(model, torch.from_numpy(memory).float(), SETTINGS, 0, loss=score_matching_loss)
    x, t = (torch.from_numpy(memory).float() + 0.4 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0)),
            0.15)
    exact = ExactScore(memory)(x, t)
    assert ((model(x, t) - exact).square().sum() / exact.square().sum()).sqrt() < 0.2


def test_score_jacobian_equals_finite_differences():
    model = ScoreNetwork(0, width=16, blocks=1, scale=0.5).double().requires_grad_(False)
    nn.init.normal_(model.output.weight, generator=torch.Generator().manual_seed(0))
    x, h = torch.randn(4, 2, generator=torch.Generator().manual_seed(1)).double(), 1e-6
    columns = [(model(x + h * e, 0.2) - model(x - h * e, 0.2)) / (2 * h) for e in torch.eye(2).double()]
    torch.testing.assert_close(score_jacobian(model, x, 0.2), torch.stack(columns, -1), atol=1e-7, rtol=1e-6)


def test_the_field_of_the_empirical_distribution_has_the_divergence_of_autograd():
    memories, x = circle(9, 0), torch.from_numpy(grid(1.2, 3))
    score, divergence = empirical_field(memories, 1.3)(x, 0.2)
    model = ExactScore(memories, 1.3)
    torch.testing.assert_close(score, model(x, 0.2))
    torch.testing.assert_close(divergence, torch.einsum("bii->b", score_jacobian(model, x, 0.2)))


def test_errors_equal_hand_computed_ones_and_that_of_energies_ignores_constants():
    exact, weights = np.array([0.0, 1.0, 3.0]), np.array([1.0, 1.0, 2.0])
    same = energy_error(exact + 7, exact, weights)
    assert same["rms"] == pytest.approx(0, abs=1e-12)
    assert same["offset"] == pytest.approx(7)
    error = energy_error(np.array([1.0, 1.0, 3.0]), exact, weights)  # difference 1, 0, 0: mean 1/4, variance 3/16
    assert error["rms"] == pytest.approx(math.sqrt(3 / 16))
    assert error["relative"] == pytest.approx(math.sqrt((3 / 16) / (19 / 4 - (7 / 4) ** 2)))
    exact = np.array([[3.0, 4.0], [0.0, 1.0]])
    error = score_error(exact + np.diag([1.0, 2.0]), exact, np.array([3.0, 1.0]))
    assert error["rms"] == pytest.approx(math.sqrt((3 * 1 + 1 * 4) / 4))
    assert error["relative"] == pytest.approx(math.sqrt(7 / (3 * 25 + 1)))


def test_clusters_shares_and_counts_by_hand():
    """Clusters are numbered by size and separated by more than the distance."""
    places = np.repeat([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]], [2, 5, 3], axis=0)
    np.testing.assert_array_equal(cluster(places, 0.5), np.repeat([2, 0, 1], [2, 5, 3]))
    np.testing.assert_array_equal(cluster(places, 1.5), np.repeat([0, 0, 1], [2, 5, 3]))
    x = np.array([[0.0, 0.0], [0.05, 0.0], [1.0, 0.95], [3.0, 3.0]])
    assert share_near(x, np.array([[0.0, 0.0], [1.0, 1.0]]), 0.1) == 0.75
    assert count_minima(np.array([1, 3, 0, 1]), 7) == {"minima": 4, "spurious": 2, "memories": [3, 1, 1, 0], "lost": 2}


def test_derivatives_of_a_model_that_is_the_exact_score_are_those_of_eq_5():
    memories, x, t = circle(9, 0), grid(1.2, 4), 0.2
    gradient, hessian = learned_derivatives(ExactScore(memories, 1.3), t)
    beta = inverse_temperature(t, 1.3)
    np.testing.assert_allclose(gradient(x), associative_memory.gradient(x, memories, beta), atol=1e-12)
    np.testing.assert_allclose(hessian(x), associative_memory.hessian(x, memories, beta), atol=1e-12)


@pytest.mark.parametrize("t", [0.02, 0.15])
def test_minima_of_a_model_that_is_the_exact_score_are_those_of_eq_5(t):
    memories, start = circle(9, 3407), grid(1.5, 5)
    minima, shared = exact_attractors(memories, inverse_temperature(t), start)
    found, shared_found = learned_attractors(ExactScore(memories), memories, t, start)
    np.testing.assert_allclose(found, minima, atol=1e-7)
    np.testing.assert_array_equal(shared_found, shared)
    assert set(all_minima(ExactScore(memories), memories, t, start)) == {"exact", "learned"}


def test_energies_by_the_exact_prior_equal_eq_25_of_the_exact_density():
    memories, x, t = circle(9, 0), grid(1.5, 4), 0.15
    found = energies(empirical_field(memories), memories, x, t)
    exact = -2 * t * associative_memory.log_density(x, memories, inverse_temperature(t))
    np.testing.assert_allclose(found["exact_prior"], exact, atol=1e-5)
    assert np.ptp(found["gaussian_prior"] - exact) > 0.1  # the bias of A.2's prior


def test_comparison_of_the_exact_score_with_itself_finds_no_error_but_that_of_the_prior():
    memories = circle(9, 3407)
    samples = np.repeat(memories, 20, axis=0)
    metrics, arrays = compare(ExactScore(memories), memories, samples, grid(1.5, 6), 0.15, [0.05, 0.15], 0.05, 0.1)
    for weighting in ("grid", "density"):
        error = metrics["error"][weighting]
        assert error["score"]["rms"] < 1e-9
        assert error["energy_exact_prior"]["rms"] < 1e-5
        assert error["energy_gaussian_prior"]["rms"] == pytest.approx(error["gaussian_prior_alone"]["rms"], abs=1e-5)
        assert error["gaussian_prior_alone"]["relative"] > 0.2
    assert metrics["solver_error"] < 1e-5
    assert [row["t"] for row in metrics["minima"]] == [0.05, 0.15]
    for row in metrics["minima"]:
        assert row["exact"] == row["learned"]
    assert metrics["ripple"]["exact_prior"] == pytest.approx(metrics["ripple"]["exact"], abs=1e-4)
    assert metrics["samples"]["near_a_training_point"] == 1
    assert metrics["samples"]["radius"] == pytest.approx(1)
    np.testing.assert_allclose(arrays["exact_score"], arrays["score"], atol=1e-9)
    assert len(arrays["centroids"]) == len(arrays["centroid_energy_exact_prior"]) == metrics["samples"]["clusters"]
    centroids = associative_memory.log_density(arrays["centroids"], memories, inverse_temperature(0.15))
    np.testing.assert_allclose(arrays["centroid_energy_exact_prior"], -0.3 * centroids, atol=1e-5)


def test_the_stages_write_the_same_bytes_twice(tmp_path):
    def outputs(name):
        model, metrics, out = (tmp_path / f"{name}.{suffix}" for suffix in ("model", "json", "out"))
        short = ["--width", 16, "--blocks", 1, "--iterations", 50, "--batch", 32, "--repeat", "--scale", 1]
        run(toy_train, "--size", 9, *short, "--out", model)
        few = ["--samples", 20, "--steps", 20, "--side", 4]
        run(toy_evaluate, "--model", model, *few, "--metrics", metrics, "--out", out)
        return model, metrics, out

    first, second = outputs("first"), outputs("second")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    arrays, record = read_arrays(first[2])
    assert arrays["samples"].shape == (20, 2)
    assert record["t"] == 0.15
    assert read_json(first[1])["K"] == 9
    np.testing.assert_array_equal(arrays["memories"], circle(60_000, 3407)[:9])


def test_a_sample_does_not_depend_on_how_many_are_drawn(tmp_path):
    model = tmp_path / "model"
    run(toy_train, "--size", 3, "--iterations", 1, "--width", 16, "--out", model)
    drawn = {}
    for count in (5, 9):
        out = tmp_path / f"{count}"
        few = ["--samples", count, "--steps", 20, "--side", 3, "--metrics", tmp_path / "m.json", "--out", out]
        run(toy_evaluate, "--model", model, *few)
        drawn[count] = read_arrays(out)[0]["samples"]
    np.testing.assert_allclose(drawn[9][:5], drawn[5], atol=1e-5)


def test_the_table_of_minima_of_two_separate_points_and_of_one_cluster(tmp_path):
    out = tmp_path / "minima.csv"
    run(toy_minima, "--size", 1, "--size", 2, "--size", 9, "--time", 0.01, "--time", 10.0, "--out", out)
    table = pd.read_csv(out).set_index(["t", "K"])
    assert table.loc[(0.01, 1), ["minima", "spurious"]].tolist() == [1, 0]
    assert table.loc[(0.01, 2), ["minima", "spurious", "share_of_spurious"]].tolist() == [2, 0, 0]
    assert table.loc[(10.0, 9), ["minima", "spurious", "share_of_spurious"]].tolist() == [1, 1, 1]
    assert (table.loc[10.0, "ripple"] < table.loc[0.01, "ripple"]).all()


def test_bad_input_is_refused_in_one_line(tmp_path):
    for stage, options, words in (
        (toy_train, ["--size", 10, "--points", 5], "--size 10: there are --points 5"),
        (toy_minima, ["--size", 10, "--points", 5], "--size 10: there are --points 5"),
        (toy_evaluate, ["--model", tmp_path / "none", "--metrics", tmp_path / "m"], "no such file"),
    ):
        assert words in refused(stage, *options, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
