"""Definitions of memorization by others: each is held against a closed form or against brute force."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from builders import model_file, refused, run
from scipy.linalg import sqrtm

from attractors.arrays import read_arrays, write_arrays
from attractors.denoisers.controls import ExactNoise
from attractors.denoisers.diffusion import Diffusion, forward_process, linear_betas
from attractors.denoisers.models import new_model
from attractors.denoisers.networks import LinearNoise
from attractors.denoisers.samplers import ancestral, sample_noise
from attractors.landscape.summaries import spectral_gap
from attractors.results.yardsticks import CURVES, crossings_table, yardsticks_table
from attractors.settings.yardsticks import Snapshots
from attractors.stages.train_snapshots import main as train_snapshots
from attractors.stages.training_time import main as training_time
from attractors.stages.yardsticks import main as yardsticks
from attractors.stages.yardsticks_table import main as yardsticks_table_stage
from attractors.yardsticks import training_time as times
from attractors.yardsticks.adaptive import adaptive_distance, is_copy
from attractors.yardsticks.agreement import cosines, nearest_cosines
from attractors.yardsticks.denoising import denoising_errors, level_times
from attractors.yardsticks.dimension import flipd, neighbour_dimension
from attractors.yardsticks.fit import Constant, departures, path_states
from attractors.yardsticks.gap import memorized_gap, relative_gap
from attractors.yardsticks.geometry import score_geometry
from attractors.yardsticks.ratio import distance_ratio, effective_size, is_memorized
from attractors.yardsticks.times import collapse_time, crossing_time, largest_variance, posterior, speciation_time

BETAS = linear_betas()
ALPHA_BAR = torch.cumprod(1 - BETAS, 0)
SHAPE = (1, 2, 3)
RANDOM = np.random.default_rng(1)


def closed_form(kind, memories):
    """The exact or the linear denoiser of images [K, 1, 2, 3]."""
    return Diffusion(kind(SHAPE, ALPHA_BAR, memories), BETAS)


def images(count, scale=0.3, seed=0):
    """Images [count, 1, 2, 3] in [-1, 1]."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(np.clip(scale * random.standard_normal((count, *SHAPE)), -1, 1).astype(np.float32))


def noise(count, seed=5):
    """Standard normal numbers [count, 1, 2, 3]."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, *SHAPE)).astype(np.float32))


def test_ratio_is_that_of_the_two_nearest_by_brute_force():
    s, x = RANDOM.standard_normal((9, 4)), RANDOM.standard_normal((7, 4))
    distances = np.sort(np.linalg.norm(x[:, None] - s, axis=2), axis=1)
    expected = [sorted(math.dist(a, b) for b in s)[0] / sorted(math.dist(a, b) for b in s)[1] for a in x]
    assert np.allclose(distance_ratio(distances), expected)
    assert is_memorized(np.array([0, 0.333, 1 / 3, 0.34])).tolist() == [True, True, False, False]
    assert distance_ratio(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, np.inf]])).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="two nearest"):
        distance_ratio(np.ones((3, 1)))


def test_effective_size_is_the_largest_with_nine_tenths():
    assert effective_size(np.array([2, 8, 16, 32]), np.array([1, 0.95, 0.9, 0.2])) == 16
    assert effective_size(np.array([2, 8, 16]), np.array([1, 0.5, 0.93])) == 16
    assert effective_size(np.array([2]), np.array([0.5])) is None


def test_adaptive_distance_by_brute_force_and_its_relation_to_the_ratio():
    s, x = RANDOM.standard_normal((80, 3)), RANDOM.standard_normal((5, 3))
    sorted_ = np.sort(np.linalg.norm(x[:, None] - s, axis=2), axis=1)
    expected = [row[0] / (0.5 * sum(row[:50]) / 50) for row in sorted_]
    assert np.allclose(adaptive_distance(sorted_), expected)
    pairs = np.sort(RANDOM.uniform(0, 1, (500, 2)), axis=1)
    assert (is_copy(adaptive_distance(pairs)) == is_memorized(distance_ratio(pairs))).all()
    few = np.array([[0.1, 2.0, 3.0, np.inf, np.inf]])
    assert adaptive_distance(few)[0] == pytest.approx(0.1 / (0.5 * 5.1 / 3))


def test_cosines_against_loops():
    x, y, centre = RANDOM.standard_normal((6, 2, 2)), RANDOM.standard_normal((6, 2, 2)), RANDOM.standard_normal((2, 2))

    def cosine(a, b):
        a, b = (a - centre).ravel(), (b - centre).ravel()
        return a @ b / math.sqrt((a @ a) * (b @ b))

    assert np.allclose(cosines(x, y, centre), [cosine(a, b) for a, b in zip(x, y, strict=True)])
    assert np.allclose(nearest_cosines(x, y, centre), [max(cosine(a, b) for b in y) for a in x])
    assert cosines(x, x) == pytest.approx(np.ones(6)) and cosines(np.zeros((1, 4)), np.ones((1, 4)))[0] == 0


def samples(model, count=24):
    """Samples of a model, always from the same noise."""
    return ancestral(model, sample_noise(3, range(count), SHAPE, model.steps)).numpy()


def test_linear_networks_agree_up_to_their_covariances_and_exact_ones_repeat_their_images():
    whole = images(4000, 0.2)
    cosine = {
        size: cosines(*(samples(closed_form(LinearNoise, whole[start : start + size])) for start in (0, size))).mean()
        for size in (4, 2000)
    }
    assert cosine[4] < 0.8 and cosine[2000] > 0.995
    memories = whole[:5]
    drawn = samples(closed_form(ExactNoise, memories))
    distances = np.sort(np.linalg.norm((drawn[:, None] - memories.numpy()).reshape(24, 5, -1), axis=2), axis=1)
    assert is_memorized(distance_ratio(distances)).mean() == 1
    assert nearest_cosines(drawn, memories.numpy()).min() > 0.999


def test_denoising_errors_of_closed_forms():
    memories = images(2000, 0.25, 2)
    held_out, z = images(600, 0.25, 3), noise(600)
    times = level_times(ALPHA_BAR, 6)
    assert times[0] == 0 and times[-1] == 999 and times == sorted(set(times))
    # The linear one of Gaussian images N(0, s^2): s^2 sigma^2 / (alpha_bar s^2 + sigma^2) a pixel.
    found = denoising_errors(closed_form(LinearNoise, memories), held_out, z, times, 100)
    a = ALPHA_BAR[times].numpy()
    expected = 0.25**2 * (1 - a) / (a * 0.25**2 + 1 - a)
    assert found.shape == (6, 600) and np.allclose(found.mean(1), expected, rtol=0.08)
    # The exact one, of one image: it returns that image, whatever it is given.
    one = denoising_errors(closed_form(ExactNoise, memories[:1]), held_out, z, times)
    assert np.allclose(one, (held_out - memories[0]).square().flatten(1).mean(1), rtol=2e-3)


def test_gap_of_the_exact_denoiser_is_one_and_of_one_that_knows_all_images_is_zero():
    whole = images(12, 0.4, 4)
    s, others, times = whole[:6], whole[6:], level_times(ALPHA_BAR, 8)
    exact = closed_form(ExactNoise, s)
    errors = {name: [denoising_errors(model, part, noise(6, seed), times) for part, seed in ((s, 1), (others, 2))]
              for name, model in {"exact": exact, "both": closed_form(ExactNoise, whole)}.items()}
    assert memorized_gap(*errors["exact"], *errors["exact"]) == 1
    assert relative_gap(*errors["exact"])[0] == pytest.approx(1, abs=1e-3)  # without noise: 0 at S, not at others
    assert abs(memorized_gap(*errors["both"], *errors["exact"])) < 0.15


def posterior_by_hand(memories, z, own, a):
    """(entropy, log-odds) in plain loops."""
    x = math.sqrt(a) * memories[own] + math.sqrt(1 - a) * z
    logs = [-sum((p - math.sqrt(a) * q) ** 2 for p, q in zip(x, m, strict=True)) / (2 * (1 - a)) for m in memories]
    weights = [math.exp(value - max(logs)) for value in logs]
    w = [value / sum(weights) for value in weights]
    return -sum(p * math.log(p) for p in w if p), math.log(w[own] / (1 - w[own]))


def test_posterior_against_loops_and_for_two_points_in_closed_form():
    memories, z = RANDOM.standard_normal((5, 3)), RANDOM.standard_normal((4, 3))
    squares = np.square(memories[:4, None] - memories).sum(2)
    projections = (z[:, None] * (memories[:4, None] - memories)).sum(2)
    a = np.array([0.9, 0.5, 0.1])
    entropy, odds = posterior(squares, projections, np.arange(4), a)
    expected = [[posterior_by_hand(memories, z[i], i, level) for i in range(4)] for level in a]
    assert np.allclose(np.stack([entropy, odds], 2), expected)
    # Two points at distance d: log-odds are normal, with mean m = alpha_bar d^2 / (2 sigma^2) and variance 2 m.
    d, count = 1.5, 200_000
    z = RANDOM.standard_normal((count, 1))
    pair, alpha_bar = np.array([[0.0], [d]]), np.array([0.6, 0.2])
    squares = np.tile([[0.0, d**2]], (count, 1))
    entropy, odds = posterior(squares, z * (pair[0] - pair[1]) * [0, 1], np.zeros(count, int), alpha_bar)
    m = alpha_bar * d**2 / (2 * (1 - alpha_bar))
    assert np.allclose(odds.mean(1), m, rtol=0.02) and np.allclose(odds.var(1), 2 * m, rtol=0.02)
    p = 1 / (1 + np.exp(-odds))
    assert np.allclose(entropy, -p * np.log(p) - (1 - p) * np.log(1 - p))
    far = posterior(np.array([[0.0, 1e9]]), np.zeros((1, 2)), np.array([0]), np.array([0.5]))
    assert far[0][0, 0] == 0 and far[1][0, 0] == pytest.approx(5e8)


def test_speciation_and_collapse_times():
    assert crossing_time(np.array([3.0, 1.0, -1.0])) == 1.5
    assert crossing_time(np.array([-1.0, -2.0])) == 0 and crossing_time(np.array([2.0, 1.0])) == 1
    flat = RANDOM.standard_normal((40, 7)) * np.arange(1, 8)
    assert largest_variance(flat) == pytest.approx(np.linalg.eigvalsh(np.cov(flat.T, bias=True))[-1])
    a = np.exp(-2 * np.linspace(0, 3, 301))
    assert speciation_time(20.0, a) == pytest.approx(100 * math.log(20) / 2, abs=0.01)  # t_S = ln(Lambda) / 2
    # Random memories in many dimensions collapse where ln K = N/2 ln(1 + alpha_bar s^2 / sigma^2) (as for Gaussians).
    K, N, s = 200, 400, 0.1
    memories, z = s * RANDOM.standard_normal((K, N)), RANDOM.standard_normal((100, N))
    squares = np.square(memories[:100, None] - memories).sum(2)
    projections = (z * memories[:100]).sum(1, keepdims=True) - z @ memories.T
    position = collapse_time(posterior(squares, projections, np.arange(100), a[1:])[1])
    at = np.interp(position, np.arange(len(a) - 1), a[1:])
    expected = K ** (2 / N) - 1
    assert at * s**2 / (1 - at) == pytest.approx(expected, rel=0.15)


def test_flipd_and_gap_of_a_plane_of_two_dimensions_and_of_a_memory():
    # Images that are wide in two pixels and fixed in four others: the linear denoiser knows their plane exactly.
    plane = torch.zeros(4000, 6)
    plane[:, :2] = torch.from_numpy(np.random.default_rng(0).standard_normal((4000, 2)).astype(np.float32))
    plane = plane.reshape(-1, *SHAPE)
    model, t = closed_form(LinearNoise, plane), 20
    at = plane[:50]
    told = score_geometry(model, at, t, 0, 16)
    a = ALPHA_BAR[t].item()
    inverse = np.linalg.inv(a * np.cov(plane.reshape(4000, 6).double().numpy().T, bias=True) + (1 - a) * np.eye(6))
    centred = (at.reshape(50, 6).double() - plane.reshape(4000, 6).double().mean(0)).numpy()
    assert np.allclose(told["trace"], -np.trace(inverse), rtol=1e-4)
    assert np.allclose(told["squared_norm"], a * np.square(centred @ inverse).sum(1), rtol=1e-3)
    found = flipd(told["trace"], told["squared_norm"], model.sigma(t).item(), 6)
    assert np.allclose(found, 2, atol=0.05)
    assert (spectral_gap(told["singular_values"], skip=0)[0] == 2).all()
    memory = score_geometry(closed_form(ExactNoise, images(3, 0.5, 9)), images(3, 0.5, 9), t, 0, 16)
    assert np.allclose(flipd(memory["trace"], memory["squared_norm"], model.sigma(t).item(), 6), 0, atol=0.01)
    estimated = score_geometry(model, at[:3], t, 0, 8, full=3)
    assert np.allclose(estimated["trace"], told["trace"][:3], rtol=0.1) and "singular_values" not in estimated


def test_dimension_of_data_from_its_neighbours():
    flat = np.zeros((3000, 5))
    flat[:, :2] = np.random.default_rng(3).uniform(0, 1, (3000, 2))
    distances = np.sort(np.linalg.norm(flat[:400, None] - flat, axis=2), axis=1)[:, 1:21]
    assert neighbour_dimension(distances) == pytest.approx(2, abs=0.15)
    assert math.isnan(neighbour_dimension(np.zeros((4, 5))))


def test_departures_by_hand_and_their_relation_to_scores():
    memories, t = images(4, 0.4, 6), 300
    exact, linear, x = closed_form(ExactNoise, memories), closed_form(LinearNoise, memories), noise(5)
    found = departures(linear, exact, [x], [t], 2)[0]
    a = ALPHA_BAR[t].item()
    scores = (linear.score(x, t) - exact.score(x, t)).square().flatten(1).sum(1).numpy()
    assert np.allclose(found * 6 * a / (1 - a) ** 2, scores, rtol=1e-3)
    assert departures(exact, exact, [x], [t])[0].max() == 0
    mean = departures(Constant(memories.mean(0)), exact, [x], [t])[0]
    assert np.allclose(mean, (exact.denoised(x, t) - memories.mean(0)).square().flatten(1).mean(1).numpy())


def test_path_states_are_those_of_the_sampler():
    exact = closed_form(ExactNoise, images(4, 0.4, 6))
    drawn = list(sample_noise(3, range(3), SHAPE, 1000))
    states = path_states(exact, iter(drawn), [0, 400, 999])
    assert torch.equal(states[2], drawn[0])
    later = ancestral(exact, iter(drawn))
    x_0 = exact.denoised(states[0], 0).clamp(-1, 1)
    assert torch.allclose(x_0, later, atol=1e-6)  # the last step adds no noise


def test_frechet_distance_is_that_of_the_formula():
    x, y = RANDOM.standard_normal((50, 4)) @ RANDOM.standard_normal((4, 4)), 1 + RANDOM.standard_normal((70, 4))
    a, b = (np.cov(part.T, bias=True) for part in (x, y))
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert times.frechet_distance(x, y) == pytest.approx(expected)
    assert times.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_onsets_and_growth():
    steps = [100, 1000, 10000]
    assert times.onset(steps, np.array([0, 0.5, 1.0]), 0.25) == pytest.approx(100 * 10**0.5)
    assert times.memorization_onset(steps, np.array([0, 0.4, 0.8])) == pytest.approx(1000)
    assert math.isnan(times.memorization_onset(steps, np.array([0, 0.0, 0.05])))
    assert times.quality_onset(steps, np.array([100.0, 10.0, 1.0])) == pytest.approx(1000)
    assert times.growth(np.array([16, 32, 64, 128]), np.array([160, 320, math.nan, 1280])) == pytest.approx(1)
    assert times.growth(np.array([16, 32]), np.array([50, 50])) == pytest.approx(0)
    assert times.snapshot_steps(1600, 5, 100) == [100, 200, 400, 800, 1600]
    assert times.snapshot_steps(50, 5, 100) == [50]


def test_table_and_crossings():
    def file(size, replicate):
        random = np.random.default_rng([size, replicate])
        share = {4: 1.0, 16: 0.75, 64: 0.25, 256: 0.0}[size]
        ratio = np.where(np.arange(400) < 400 * share, 0.1, 0.9)
        return {"ratio": ratio, "adaptive": ratio * 2 + random.uniform(0, 0.01, 400)}, {}

    runs = {size: [file(size, r) for r in range(2)] for size in (4, 16, 64, 256)}
    table = yardsticks_table(runs, {})
    row = table[(table.yardstick == "ratio") & (table.K == 16)].iloc[0]
    assert row.value == 0.75 and row.low < 0.75 < row.high and row.runs == 2
    crossed = crossings_table(table, np.random.default_rng(0)).set_index("yardstick")
    assert crossed.K["ratio"] == pytest.approx(32) and crossed.low["ratio"] < 32 < crossed.high["ratio"]
    assert crossed.K["effective_size"] == 4
    rising = pd.DataFrame({"K": [4, 16, 64], "yardstick": "path_departure", "value": [0.1, 0.2, 0.5],
                           "low": math.nan, "high": math.nan, "runs": 1})
    crossed = crossings_table(rising, np.random.default_rng(0)).set_index("yardstick")
    assert crossed.half["path_departure"] == pytest.approx(0.3)
    assert crossed.K["path_departure"] == pytest.approx(16 * 4 ** (1 / 3))


@pytest.fixture
def project(tmp_path):
    """A folder with a dataset, and closed-form models and samples of its first 8 images."""
    whole = images(40, 0.4, 7).numpy()
    write_arrays(tmp_path / "subset.safetensors", {"images": whole})
    diffusion = {"steps": 100, "beta_min": 1e-3, "beta_max": 0.2}
    for name in ("exact", "linear"):
        model = model_file(tmp_path / f"{name}.safetensors", {"name": name}, SHAPE, 8, diffusion, seed=0,
                           images=torch.from_numpy(whole[:8]))
        write_arrays(tmp_path / f"{name}-samples.safetensors", {"images": samples(model, 32)})
    return tmp_path


def test_stage_on_the_exact_and_the_linear_denoiser(project):
    values = {}
    for name in ("exact", "linear"):
        out = project / "data" / "yardsticks" / name / "8.safetensors"
        options = ["--synthetic", project / f"{name}-samples.safetensors", "--training", project / "subset.safetensors",
                   "--size", 8, "--model", project / f"{name}.safetensors", "--samples", 16, "--levels", 6, "--t0", 5]
        run(yardsticks, *options, "--out", out)
        run(yardsticks_table_stage, name, "--data", project / "data", "--metrics", project)
        values[name] = pd.read_csv(project / "yardsticks" / f"{name}.csv").set_index("yardstick").value
        first = out.read_bytes()
        run(yardsticks, *options, "--out", out)
        assert out.read_bytes() == first
        assert len(pd.read_csv(project / "gaps" / f"{name}.csv")) == 6
    assert values["exact"].ratio == 1 and values["linear"].ratio < 0.5
    assert values["exact"].held_out_gap == pytest.approx(1) and values["linear"].held_out_gap < 0.9
    assert abs(values["exact"].flipd) < 0.2 and values["linear"].flipd > 3
    assert values["exact"].path_departure < 1e-6 < values["linear"].path_departure
    arrays, record = read_arrays(project / "data" / "yardsticks" / "exact" / "8.safetensors")
    assert arrays["ratio"].shape == (32,) and arrays["samples_flipd"].shape == (16,) and record["size"] == 8


def test_users_files_without_a_model_and_one_line_for_what_does_not_fit(project, tmp_path):
    for name, part in (("training", images(30, 0.4, 7)), ("samples", images(20, 0.4, 8))):
        np.savez(tmp_path / f"{name}.npz", np.rint((part.numpy() + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1))
    both = ("--synthetic", tmp_path / "samples.npz", "--training", tmp_path / "training.npz")
    printed = run(yardsticks, *both, "--out", tmp_path / "own.safetensors")
    assert "20 samples, K = 30" in printed and "memorized by the ratio" in printed
    assert sorted(read_arrays(tmp_path / "own.safetensors")[0]) == ["adaptive", "ratio"]
    wrong = *both, "--model", project / "exact.safetensors", "--out", tmp_path / "x.safetensors"
    assert "trained on 8 images" in refused(yardsticks, *wrong)


def test_snapshots_and_what_is_drawn_from_them(tmp_path):
    write_arrays(tmp_path / "subset.safetensors", {"images": images(40, 0.4, 7).numpy()})
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(
        "network: {name: mlp, width: 16, blocks: 1}\ndiffusion: {prediction: velocity, steps: 50}\n"
        "train_snapshots: {iterations: 250, batch: 16, repeat: true, learning_rate: 0.01, snapshots: 3}\n"
    )
    paths = []
    for skip in (0, 8):
        paths.append(tmp_path / f"{skip}.safetensors")
        run(train_snapshots, "--sweep", sweep, "--subset", tmp_path / "subset.safetensors", "--size", 8,
            "--skip", skip, "--out", paths[-1])
    arrays, record = read_arrays(paths[1])
    assert arrays["steps"].tolist() == [100, 200, 250] and record["skip"] == 8
    assert arrays["weights"].shape[0] == 3 and not np.allclose(arrays["weights"][0], arrays["weights"][2])
    # The last row is what `train` itself returns.
    from attractors.denoisers.training import train

    settings = Snapshots(iterations=250, batch=16, repeat=True, learning_rate=0.01, snapshots=3)
    part = images(40, 0.4, 7)[8:16]
    model = new_model(record["network"], record["diffusion"], SHAPE, record["seed"], part)
    train(model, part, settings, record["seed"])
    vector = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    assert np.array_equal(arrays["weights"][2], vector)
    out = tmp_path / "data" / "training_time" / "tiny" / "8.safetensors"
    run(training_time, *paths, "--subset", tmp_path / "subset.safetensors", "--samples", 12, "--out", out)
    found, _ = read_arrays(out)
    assert found["memorized"].shape == found["frechet"].shape == (2, 3) and found["agreement"].shape == (12,)
    run(yardsticks_table_stage, "tiny", "--data", tmp_path / "data", "--metrics", tmp_path)
    table = pd.read_csv(tmp_path / "yardsticks" / "tiny.csv").set_index("yardstick")
    assert table.value["agreement"] == pytest.approx(found["agreement"].mean(), rel=1e-4)
    swapped = *paths[::-1], "--subset", tmp_path / "subset.safetensors", "--out", out
    assert "overlap" in refused(training_time, *swapped)


def test_every_curve_has_a_colour_in_the_figure():
    from attractors.figures.yardsticks import PAINT

    assert set(PAINT) == set(CURVES)


def test_forward_process_gives_the_states_of_the_posterior():
    memories, z = images(3, 0.4, 1), noise(3)
    x_t = forward_process(memories, z, 500, ALPHA_BAR).reshape(3, -1).double().numpy()
    a, flat = ALPHA_BAR[500].item(), memories.reshape(3, -1).double().numpy()
    logs = -np.square(x_t[:, None] - math.sqrt(a) * flat).sum(2) / (2 * (1 - a))
    weights = np.exp(logs - logs.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    squares = np.square(flat[:, None] - flat).sum(2)
    projections = (z.reshape(3, 1, -1).double().numpy() * (flat[:, None] - flat)).sum(2)
    entropy, _ = posterior(squares, projections, np.arange(3), np.array([a]))
    assert np.allclose(entropy[0], -(weights * np.log(weights)).sum(1), atol=1e-5)


@pytest.mark.parametrize("size", [np.nan, 16.0])
def test_crossings_are_drawn_where_no_curve_crosses_its_half_too(tmp_path, size):
    from attractors.figures.style import panels, save
    from attractors.figures.yardsticks import draw_crossings

    figure, axes = panels(1, 1, 3, 2)
    draw_crossings(axes[0, 0], pd.DataFrame({"yardstick": ["ratio"], "K": size, "low": size, "high": size}), None)
    save(figure, [str(tmp_path / "x.png")])
    assert axes[0, 0].get_xscale() == ("log" if size > 0 else "linear")
