"""What a spurious state is, against closed forms: fixed points, repetition, blends of images, the scaling law."""

from itertools import combinations

import numpy as np
import pytest
import torch
from builders import neighbours_file, run
from click.testing import CliRunner
from scipy.stats import chi2

from attractors.arrays import array_hash, read_arrays, write_arrays
from attractors.denoisers.models import new_model, write_model
from attractors.figures.phase import main as figure_phase
from attractors.results.states import blends_table, ends_table, repetition_tables, states_row
from attractors.stages.census import main as census
from attractors.stages.phase import main as phase
from attractors.stages.states_table import main as states_table
from attractors.states.fixed_points import descend, largest_eigenvalues, merge, retrieval, return_rates
from attractors.states.mixtures import KINDS, blend_kinds, simplex_weights
from attractors.states.repetition import coverage, rarefaction, repetition_chance
from attractors.states.scaling import fit_law
from attractors.tables import read_csv

SHAPE = (1, 2, 3)


def exact(memories):
    return new_model({"name": "exact"}, {}, tuple(memories.shape[1:]), 0, memories).double()


def test_the_exact_denoiser_has_s_and_nothing_else_at_low_noise():
    random = torch.Generator().manual_seed(0)
    s = (torch.rand(9, *SHAPE, generator=random) * 2 - 1).double()
    starts = (torch.rand(400, *SHAPE, generator=random) * 2 - 1).double()
    model = exact(s.float())
    descent = descend(retrieval(model, 5), starts)
    assert not descent.moving.any()
    labels = merge(descent.x.numpy(), 1e-2)
    states = torch.stack([descent.x[labels == i].mean(0) for i in range(labels.max() + 1)])
    assert len(states) == 9
    distances = torch.cdist(states.flatten(1), s.flatten(1))
    assert distances.min(1).values.max() < 1e-3 and sorted(distances.argmin(1).tolist()) == list(range(9))
    assert (largest_eigenvalues(retrieval(model, 5), states) < 0.5).all()
    assert (return_rates(model, states, 5, 0, 0.01, 10) == 1).all()


@pytest.mark.parametrize("product", [0.5, 1.8, 2.5, 8.0])
def test_two_memories_have_one_or_two_stable_points_as_theory_says(product):
    """E^AM has one minimum, at the midpoint, while beta |xi^1 - xi^2|^2 <= 2, and two beyond."""
    model, t = exact(torch.zeros(2, *SHAPE)), 100
    a = model.alpha_bar[t]
    beta = float(a / (2 * (1 - a)))
    pair = torch.zeros(2, *SHAPE)
    pair[1, 0, 0, 0] = (product / beta) ** 0.5
    model, middle = exact(pair), pair.mean(0).double()
    line = torch.linspace(0.03, 0.97, 20)[:, None, None, None].double() * pair[1].double()
    descent = descend(retrieval(model, t), line, 1e-7, 20000)
    labels = merge(descent.x.numpy(), 1e-2 * (product / beta) ** 0.5)
    assert labels.max() + 1 == (1 if product <= 2 else 2)
    assert (float(largest_eigenvalues(retrieval(model, t), middle[None])) < 1) == (product <= 2)
    assert float(largest_eigenvalues(retrieval(model, t), middle[None])) == pytest.approx(product / 2, rel=1e-5)
    if product <= 2:
        assert (descent.x - middle).abs().max() < 1e-4


def test_what_still_moves_is_said_to():
    descent = descend(lambda x: x + (x > 0), torch.tensor([[1.0, 1.0], [0.0, 0.0]]), steps=7)
    assert descent.moving.tolist() == [True, False] and descent.steps.tolist() == [7, 1]
    assert descent.x.tolist() == [[8, 8], [0, 0]]


def test_return_rates_fall_where_noise_leads_to_another_memory():
    s = torch.tensor([-0.3, 0.3, 5.0])[:, None, None, None]
    model = exact(s)
    states, near = descend(retrieval(model, 60), s.double()).x, float((1 / model.alpha_bar[60] - 1).sqrt())
    assert 0.15 < near < 0.25 and states.flatten().tolist() == pytest.approx([-0.3, 0.3, 5], abs=0.03)
    rates = return_rates(model, states, 60, 0, 0.1, 400)
    # Without the third memory, a trial returns where the noise does not lead across the middle.
    expected = 0.5 * (1 + torch.erf(torch.tensor(0.3 / near / 2**0.5)))
    assert rates[2] == 1 and rates[:2].mean() == pytest.approx(float(expected), abs=0.06)


def test_what_diverges_still_moves():
    descent = descend(lambda x: x * x, torch.tensor([[3.0], [0.5]]), 1e-3, 200)
    assert descent.moving.tolist() == [True, False]


def test_states_are_numbered_by_their_frequency():
    points = np.array([0.0, 5.0, 5.01, 9.0, 5.02, 0.01])[:, None]
    assert merge(points, 0.1).tolist() in ([1, 0, 0, 2, 0, 1],)
    chain = np.arange(5.0)[:, None]
    assert merge(chain, 1.0).max() == 0 and merge(chain, 1.0, "complete").max() == 2
    assert merge(chain[:1], 1.0).tolist() == [0]


def test_the_chance_of_a_repetition_of_discrete_states_and_of_a_gaussian():
    random, p = np.random.default_rng(0), np.array([0.5, 0.3, 0.2])
    states = 10 * random.standard_normal((3, 2, 4))
    chance, error = repetition_chance(states[random.choice(3, 3000, p=p)] + random.normal(0, 0.01, (3000, 2, 4)), 0.5)
    assert abs(chance - (p**2).sum()) < 4 * error and 0.001 < error < 0.01
    estimates = [repetition_chance(random.standard_normal((400, 6)), 2.0) for _ in range(40)]
    values, errors = np.array(estimates).T
    expected = chi2.cdf(2.0**2 / 2, 6)  # |x - y|^2 / 2 of two standard normal vectors of 6 numbers
    assert values.mean() == pytest.approx(expected, abs=4 * errors.mean() / 40**0.5)
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.4)
    assert np.isnan(repetition_chance(np.zeros((1, 3)), 1.0)).all()


def test_the_chance_of_a_repetition_is_counted_over_all_pairs_and_does_not_grow_with_their_number():
    x = np.random.default_rng(1).standard_normal((60, 3))
    pairs = [np.linalg.norm(a - b) <= 1.0 for a, b in combinations(x, 2)]
    assert repetition_chance(x, 1.0)[0] == pytest.approx(np.mean(pairs))


def test_rarefaction_is_the_mean_over_random_parts():
    random, counts = np.random.default_rng(0), np.array([6, 3, 1, 1])
    members = np.repeat(np.arange(4), counts)
    curve = rarefaction(counts, np.array([0, 1, 5, 11]))
    assert curve[[0, 1, 3]] == pytest.approx([0, 1, 4])
    drawn = [len(np.unique(random.permutation(members)[:5])) for _ in range(20000)]
    assert curve[2] == pytest.approx(np.mean(drawn), abs=0.02)


def test_coverage_is_the_mass_of_states_that_were_seen():
    random, p = np.random.default_rng(0), np.random.default_rng(1).dirichlet(np.full(300, 0.5))
    seen, estimates = [], []
    for _ in range(200):
        counts = random.multinomial(400, p)
        seen.append(p[counts > 0].sum())
        estimates.append(coverage(counts[counts > 0]))
    assert np.mean(estimates) == pytest.approx(np.mean(seen), abs=0.01)
    assert coverage(np.ones(5)) == 0 and coverage(np.array([5])) == 1


def test_planted_blends_have_their_weights():
    random = np.random.default_rng(0)
    xi = random.uniform(-1, 1, (12, 4, 5))
    planted = np.zeros((3, 12))
    planted[0, 3] = 1
    planted[1, [2, 7]] = 0.3, 0.7
    planted[2, [0, 5, 11]] = 0.2, 0.3, 0.5
    blends = simplex_weights(np.einsum("nk,khw->nhw", planted, xi), xi)
    assert blends.weights == pytest.approx(planted, abs=1e-9) and blends.residual == pytest.approx(0, abs=1e-9)
    assert blends.parts.tolist() == [1, 2, 3]


def test_no_point_of_the_simplex_is_nearer():
    random = np.random.default_rng(0)
    xi, x = random.uniform(-1, 1, (5, 3)), random.uniform(-2, 2, (20, 3))
    blends = simplex_weights(x, xi)
    assert (blends.weights >= 0).all() and blends.weights.sum(1) == pytest.approx(1)
    tried = random.dirichlet(np.full(5, 0.5), 20000) @ xi
    nearest = np.linalg.norm(x[:, None] - tried, axis=2).min(1)
    assert (blends.residual <= nearest + 1e-9).all() and (blends.residual > nearest - 0.2).all()


def test_kinds_of_blends_are_found_and_random_images_are_none():
    random = np.random.default_rng(0)
    xi = random.uniform(-1, 1, (20, 40))
    x = np.stack([xi[4] + 0.01, (xi[1] + xi[9]) / 2, xi[[2, 3, 17]].mean(0), random.uniform(-1, 1, 40)])
    assert [KINDS[code] for code in blend_kinds(x, xi, 0.2)] == ["training", "two", "three", "other"]
    assert blend_kinds(x[:0], xi, 0.2).shape == (0,) and simplex_weights(x[:0], xi).weights.shape == (0, 20)


def test_kinds_are_those_of_the_nearest_point_of_each_pair_and_triple():
    random = np.random.default_rng(1)
    xi = random.uniform(-1, 1, (6, 3))
    x = np.concatenate([random.dirichlet(np.full(6, 0.3), 60) @ xi, random.uniform(-1, 1, (60, 3))])
    expected = []
    for image in x:
        reached = [min(simplex_weights(image[None], xi[list(part)]).residual[0] for part in combinations(range(6), n))
                   <= 0.1 for n in (1, 2, 3)]
        expected.append(reached.index(True) if any(reached) else 3)
    assert set(expected) == {0, 1, 2, 3}
    assert blend_kinds(x, xi, 0.1, nearest=12).tolist() == expected


def test_tables_of_planted_samples():
    """Four samples of each type: memorized ones stay, a spurious one stays, the others end at training images."""
    s = np.array([[0.0, 0], [10, 0], [0, 10], [50, 50]])[:, None, :, None]  # S is the first three
    x = np.array([[0.0, 0], [10, 0], [0, 10], [0, 0], [5, 0], [5, 0], [5, 0], [5, 0], [3, 3], [4, 3], [30, 9], [9, 40]])
    ends, codes = x.copy(), np.repeat([0, 1, 2], 4).astype(np.int8)
    ends[5:8], ends[8:] = 0, np.nan
    arrays = {"ends": ends[:, None, :, None], "moving": np.arange(12) >= 8, "mass": np.array([5, 1]),
              "states": np.array([[0.0, 0], [5, 0]])[:, None, :, None], "eigenvalues": np.array([0.2, 1.5]),
              "returns": np.array([1.0, 0.4])}
    x = x[:, None, :, None]
    table = ends_table(arrays, x, codes, s[:3], 0.5).set_index("type")
    assert table.stayed.tolist() == [1, 0.25, 0] and table.at_training.tolist() == [1, 0.75, 0]
    assert table.moving.tolist() == [0, 0, 1] and table.n.tolist() == [4, 4, 4]
    row = states_row(arrays, s[:3], 0.5, 9)
    assert [row[f"states_{kind}"] for kind in KINDS] == [1, 1, 0, 0]
    assert (row["starts_training"], row["starts_two"], row["stable_new"], row["returns_new"]) == (5, 1, 0, 0.4)
    row, curve = repetition_tables(x, codes, 0.5)
    assert (row["new"], row["states"], row["spurious"], row["spurious_quarter"]) == (8, 5, 1 / 3, 0)
    assert row["C_2"] == pytest.approx(6 / 28) and row["coverage"] == pytest.approx(0.5)
    half = np.mean([len({*part} - {1, 2, 3}) for part in combinations(range(8), 4)])  # 0..3 are one state: count 0 once
    half += np.mean([bool({1, 2, 3} & {*part}) and 0 not in part for part in combinations(range(8), 4)])
    assert row["exponent"] == pytest.approx(np.log2(5 / half)) and curve.states.iloc[-1] == pytest.approx(5)
    table = blends_table(x, codes, np.concatenate([s, s[3:]]), 3, 0.5, 9).set_index("type")
    assert table.two["spurious"] == 1 and table.three["generalized"] == 0.5 and table.other["held_out"] == 1


def test_the_census_of_a_folder_of_models(tmp_path):
    s = np.random.default_rng(0).uniform(-1, 1, (5, *SHAPE)).astype(np.float32)
    write_arrays(tmp_path / "data/subsets/d.safetensors", {"images": s})
    write_arrays(tmp_path / "data/synthetic/x/4.safetensors", {"images": np.repeat(s[:4], 3, 0)})
    record = {"network": {"name": "exact"}, "diffusion": {}, "image_shape": list(SHAPE), "size": 4, "seed": 0}
    write_model(tmp_path / "models/4.safetensors", exact(torch.from_numpy(s[:4])).float().state_dict(), **record)
    (tmp_path / "x.yaml").write_text("dataset: d\nnetwork: {name: exact}\n")
    options = [tmp_path / "models", "--sweep", tmp_path / "x.yaml", "--data", tmp_path / "data", "--t", 5]
    result = CliRunner().invoke(census, [*map(str, options), "--out", str(tmp_path / "census")])
    assert result.exit_code == 0, result.output
    arrays, _ = read_arrays(tmp_path / "census/4.safetensors")
    assert arrays["mass"].tolist() == [3] * 4 and (arrays["returns"] == 1).all() and (arrays["eigenvalues"] < 1).all()
    np.testing.assert_allclose(arrays["ends"], np.repeat(s[:4], 3, 0), atol=1e-3)
    (tmp_path / "data/synthetic/x/4.safetensors").unlink()
    result = CliRunner().invoke(census, [*map(str, options), "--out", str(tmp_path / "census")])
    assert result.exit_code == 1 and "no samples" in result.output


def test_the_types_along_a_training(tmp_path):
    """Two snapshots with the same weights draw the same samples; images that were trained on are not held out."""
    s = np.random.default_rng(0).uniform(-1, 1, (9, *SHAPE)).astype(np.float32)
    write_arrays(tmp_path / "s.safetensors", {"images": s})
    record = {"network": {"name": "mlp", "width": 8, "blocks": 1}, "diffusion": {"steps": 40}, "image_shape": SHAPE,
              "size": 4, "skip": 2, "seed": 0, "subset_sha256": array_hash(s[2:6])}
    model = new_model(record["network"], record["diffusion"], SHAPE, 0, torch.from_numpy(s[2:6]))
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    write_arrays(tmp_path / "a.safetensors", {"steps": np.array([1, 2]), "weights": np.stack([weights] * 2)}, **record)
    options = [tmp_path / "a.safetensors", "--subset", tmp_path / "s.safetensors", "--samples", 20, "--images", 3]
    result = CliRunner().invoke(phase, [*map(str, options), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    arrays, found = read_arrays(tmp_path / "out")
    assert arrays["memorized"].shape == (1, 2) and arrays["memorized"][0, 0] == arrays["memorized"][0, 1]
    total = arrays["memorized"] + arrays["spurious"] + arrays["generalized"]
    assert total == pytest.approx(1) and found["parameters"] == len(weights)
    (tmp_path / "data/phase/x").mkdir(parents=True)
    (tmp_path / "out").rename(tmp_path / "data/phase/x/4.safetensors")
    folders = ["--data", tmp_path / "data", "--metrics", tmp_path, "--out", tmp_path / "x.png"]
    drawn = CliRunner().invoke(figure_phase, ["x", *map(str, folders)])
    assert drawn.exit_code == 0, drawn.output
    table = read_csv(tmp_path / "phase/x.csv")
    assert table.K.tolist() == [4, 4] and table.steps.tolist() == [1, 2]
    assert table.memorized[0] == pytest.approx(arrays["memorized"][0, 0], abs=1e-5)
    result = CliRunner().invoke(phase, [*map(str, options), "--images", "4", "--out", str(tmp_path / "out")])
    assert result.exit_code == 1 and "too few are left" in result.output


def test_the_law_is_recovered_and_its_intervals_cover():
    random, truth = np.random.default_rng(0), np.array([-8.0, 1.5, -1.2, 0.1])
    steps, K, parameters = (part.ravel() for part in np.meshgrid(
        2000.0 * 2 ** np.arange(6), [16.0, 32, 64], [3e4, 6e4, 1e5]))
    logits = truth @ np.stack([np.ones(len(K)), np.log(steps), np.log(K), np.log(parameters)])
    law = fit_law(1 / (1 + np.exp(-logits)), steps, K, parameters)
    assert law.coefficients == pytest.approx(truth, abs=1e-3)
    assert law.memorized(np.array([law.half_steps(128, 5e4)]), np.array([128]), np.array([5e4])) == pytest.approx(0.5)
    inside = 0
    for _ in range(60):
        shares = random.binomial(50, 1 / (1 + np.exp(-logits))) / 50
        noisy = fit_law(shares, steps, K, parameters)
        inside += np.abs(noisy.coefficients[1] - truth[1]) < 1.96 * noisy.covariance[1, 1] ** 0.5
    assert inside >= 50


def test_in_a_sweep_of_lpips_points_are_at_images_by_a_quarter_of_the_spacing_in_pixels(tmp_path):
    """Thresholds of LPIPS lie far below distances of pixels, at which nothing would be at anything."""
    random = np.random.default_rng(8)
    order = random.uniform(-0.9, 0.9, (40, 3, 4, 4)).astype(np.float32)
    s, size = order[:8], 8
    near, far = s + random.normal(0, 0.02, s.shape), random.uniform(-0.9, 0.9, s.shape)
    samples = np.concatenate([near, far]).astype(np.float32)
    write_arrays(tmp_path / "data/subsets/d.safetensors", {"images": order})
    write_arrays(tmp_path / "data/synthetic/x/8.safetensors", {"images": samples})
    codes = np.repeat(np.array([0, 2], np.int8), 8)
    write_arrays(tmp_path / "data/types/x/8.safetensors", {"codes": codes}, size=8, delta_m=1e-3, delta_s=1e-3)
    neighbours_file(tmp_path, size, 0, np.zeros(16), np.ones(16), distance="lpips_alex", training_sha256=array_hash(s))
    ends = np.concatenate([s, samples[8:] + 0.001])
    arrays = {"ends": ends, "taken": np.ones(16, np.int64), "moving": np.zeros(16, bool), "state": np.arange(16),
              "states": ends, "mass": np.ones(16, np.int64), "eigenvalues": np.zeros(4), "returns": np.ones(4)}
    write_arrays(tmp_path / "data/census/x/8.safetensors", arrays, size=8)
    run(states_table, "x", "--dataset", "d", "--data", tmp_path / "data", "--metrics", tmp_path / "metrics")
    table = read_csv(tmp_path / "metrics/ends/x.csv").set_index("type")
    assert table.stayed["memorized"] == table.at_training["memorized"] == 1
    assert table.stayed["generalized"] == 1 and table.at_training["generalized"] == 0
