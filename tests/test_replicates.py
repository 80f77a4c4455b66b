"""Replicates: dispersions and intervals against simulation, and what the stages make of the files K-R of a sweep."""

import shutil

import numpy as np
import pandas as pd
import pytest
from builders import neighbours_file, refused
from builders import run as run_stage
from scipy.stats import binom, chi2_contingency, t

from attractors.arrays import read_arrays, write_arrays
from attractors.distances.detection import TYPES, classify
from attractors.results.comparison import compare_fractions
from attractors.results.joined import error_of_replicates, estimate, with_replicates
from attractors.results.replicates import (
    Dispersion,
    dispersion,
    dispersions,
    drawn,
    fraction_interval,
    interval,
    peak_interval,
    pooled,
    quantities,
)
from attractors.results.run import Run
from attractors.tables import read_csv, read_json

N = 1000  # samples of a replicate
CURVE = np.array([16, 32, 64, 128, 256])  # sizes of a transition ...
SHARES = np.array([(0.9, 0.07, 0.03), (0.75, 0.15, 0.1), (0.45, 0.25, 0.3), (0.2, 0.2, 0.6), (0.05, 0.08, 0.87)])


def replicates(random, shares, count, phi):
    """Counts of `count` models of N samples each, which differ phi times as much as samples alone: [count, 3].

    Their shares are of a Dirichlet distribution, whose variance is p (1 - p) / (A + 1) with A its precision, so the
    variance of a count is N p (1 - p) (1 + (N - 1) / (A + 1)).
    """
    if phi == 1:
        return random.multinomial(N, shares, count)
    drawn_shares = random.dirichlet(np.asarray(shares) * ((N - 1) / (phi - 1) - 1), count)
    return np.stack([random.multinomial(N, row) for row in drawn_shares])


def table(sizes, counts):
    """The table of replicates with these counts: [R, 3] for each K."""
    return pd.DataFrame([
        {"K": size, "replicate": number, "count": row.sum(), **dict(zip(TYPES, row / row.sum(), strict=True))}
        for size, part in zip(sizes, counts, strict=True) for number, row in enumerate(part)
    ])


@pytest.mark.parametrize("phi", [1, 2, 6])
def test_dispersion_is_the_one_that_replicates_were_made_with(phi):
    random = np.random.default_rng(0)
    found = dispersion([replicates(random, SHARES[i % 5], 3, phi) for i in range(1000)])
    assert found.value == pytest.approx(phi, rel=0.05)
    assert found.degrees == 1000 * 2 * 2
    assert found.quantile() == pytest.approx(1.96, abs=1e-3)


def test_dispersion_is_the_mean_of_chi_squared_by_degrees_of_the_types_that_are_frequent():
    frequent = np.array([[500, 300, 200], [450, 380, 170], [520, 310, 170]])
    rare = np.array([[700, 300, 0], [640, 357, 3]])  # 1.5 generalized samples are expected in each
    first, second = (chi2_contingency(part, correction=False) for part in (frequent, rare[:, :2]))
    assert (first.dof, second.dof) == (4, 1)
    found = dispersion([frequent, rare, frequent[:1]])
    assert found == (pytest.approx((first.statistic + second.statistic) / 5), 5)
    # All samples of one type, as at the smallest K, say nothing.
    assert dispersion([np.array([[1000, 0, 0]] * 3), frequent]) == (pytest.approx(first.statistic / 4), 4)


def test_without_replicates_intervals_are_of_samples_alone_and_chance_never_narrows_them():
    found = dispersion([np.array([[500, 300, 200]]), np.array([[0, 10, 990]])])
    assert found == (1, 0)
    assert found.quantile() == pytest.approx(1.959964, rel=1e-6)
    assert Dispersion(3.0, 2).quantile() == pytest.approx(4.302653, rel=1e-6)  # a table of Student's distribution
    assert dispersion([np.array([[500, 300, 200]] * 3)]) == (1, 4)  # replicates more alike than samples can be
    assert pooled([2, 5], [1, 3]) == (pytest.approx(4.25), 4)
    assert pooled([], []) == (1, 0)


def test_a_fraction_has_wilsons_interval_of_as_many_samples_as_the_replicates_amount_to():
    counts, phi = np.array([[600, 250, 150], [500, 350, 150]]), Dispersion(4.0, 10)
    shares, low, high, error = fraction_interval(counts, phi)
    np.testing.assert_allclose(shares, [0.55, 0.3, 0.15])
    np.testing.assert_allclose(error, np.sqrt(np.array([0.55, 0.3, 0.15]) * [0.45, 0.7, 0.85] / 500))
    z = t.ppf(0.975, 10)
    for end in (low, high):  # Wilson's ends are where the share is z standard errors away
        np.testing.assert_allclose(np.abs(shares - end) / np.sqrt(end * (1 - end) / 500), z)
    assert (low < shares).all() and (shares < high).all()


@pytest.mark.parametrize("phi", [1, 5])
def test_intervals_of_fractions_hold_what_infinitely_many_replicates_would_give(phi):
    """Three replicates at most sizes, one at the others: 95% of the intervals hold the truth at both."""
    random, three, one, plain = np.random.default_rng(1), [], [], []
    for _ in range(400):
        numbers = [3, 3, 3, 3, 1]
        counts = [replicates(random, row, number, phi) for row, number in zip(SHARES, numbers, strict=True)]
        for row, part, number, found in zip(SHARES, counts, numbers, dispersions(counts), strict=True):
            _, low, high, _ = fraction_interval(part, found)
            (three if number == 3 else one).append((low <= row) & (row <= high))
            _, low, high, _ = fraction_interval(part, Dispersion(1.0, 0))
            plain.append((low <= row) & (row <= high))
    print(f"phi {phi}: coverage {np.mean(three):.3f} of three, {np.mean(one):.3f} of one, {np.mean(plain):.3f} plain")
    assert 0.94 < np.mean(three) < 0.99
    assert np.mean(one) > 0.94
    assert phi == 1 or np.mean(plain) < 0.7


def test_where_replicates_differ_more_at_one_size_its_intervals_hold_the_truth_and_one_phi_does_not():
    """Five replicates; phi is 60 at the size where the transition is, and 3 at the others."""
    random, own, common, quiet = np.random.default_rng(6), [], [], []
    for _ in range(300):
        counts = [replicates(random, row, 5, 60 if i == 2 else 3) for i, row in enumerate(SHARES)]
        phis, phi = dispersions(counts), dispersion(counts)
        for i, (row, part) in enumerate(zip(SHARES, counts, strict=True)):
            _, low, high, _ = fraction_interval(part, phis[i])
            (own if i == 2 else quiet).append((low <= row) & (row <= high))
        _, low, high, _ = fraction_interval(counts[2], phi)
        common.append((low <= SHARES[2]) & (SHARES[2] <= high))
    print(f"coverage: moderated {np.mean(own):.3f}, one phi {np.mean(common):.3f}, elsewhere {np.mean(quiet):.3f}")
    assert np.mean(own) > 0.9 and np.mean(common) < 0.87
    assert np.mean(quiet) > 0.95


def test_the_interval_of_the_largest_fraction_holds_the_truth_which_its_quantiles_miss():
    """Six sizes with the same spurious fraction: the largest of them is too large, and once more when drawn again."""
    random, truth = np.random.default_rng(7), 0.25
    held, plain, low_misses = [], [], 0
    for _ in range(400):
        counts = [random.multinomial(400, (0.5, truth, 0.25), 1) for _ in range(6)]
        peak = max(part[0, 1] / 400 for part in counts)
        draws = drawn(counts, dispersions(counts), 300, random)[..., 1].max(1)
        low, high = peak_interval(peak, draws)
        held.append(low <= truth <= high)
        low_misses += interval(draws)[0] > truth
        plain.append(interval(draws)[0] <= truth <= interval(draws)[1])
    print(f"coverage: reflected {np.mean(held):.3f}, quantiles {np.mean(plain):.3f}")
    assert np.mean(held) > 0.88
    assert np.mean(plain) < 0.4 and low_misses > 200


def test_fractions_drawn_without_replicates_have_the_quantiles_of_the_binomial():
    shares = drawn([np.array([[300, 250, 450]]), np.array([[1000, 0, 0]])], [Dispersion(1.0, 0)] * 2, 2000,
                   np.random.default_rng(0))
    assert shares.shape == (2000, 2, 3)
    np.testing.assert_allclose(shares.sum(2), 1)
    for quantile in (0.025, 0.5, 0.975):
        expected = binom.ppf(quantile, 1000, 0.25) / 1000
        assert np.quantile(shares[:, 0, 1], quantile) == pytest.approx(expected, abs=0.003)


def test_fractions_drawn_again_vary_as_replicates_and_their_number_of_samples_say():
    counts = np.array([[550, 250, 200], [450, 250, 300]])  # 2000 samples that count as 400
    found = drawn([counts], [Dispersion(5.0, 10**9)], 20_000, np.random.default_rng(0))[:, 0]
    np.testing.assert_allclose(found.mean(0), [0.5, 0.25, 0.25], atol=0.001)
    np.testing.assert_allclose(found.var(0), np.array([0.25, 0.1875, 0.1875]) / 400, rtol=0.03)
    # With six degrees of freedom phi is uncertain itself: the mean of 6 / chi-squared is 6 / 4.
    found = drawn([counts], [Dispersion(5.0, 6)], 20_000, np.random.default_rng(0))[:, 0]
    np.testing.assert_allclose(found.var(0), np.array([0.25, 0.1875, 0.1875]) / 400 * 1.5, rtol=0.1)


def test_the_interval_of_the_half_crossing_holds_that_of_infinitely_many_replicates():
    random, held, plain = np.random.default_rng(2), [], []
    truth = quantities(CURVE, SHARES[None])["half_memorized_K"][0]
    assert truth == pytest.approx(np.exp(np.interp(-0.5, -SHARES[:, 0], np.log(CURVE))))
    for _ in range(300):
        counts = [replicates(random, row, 3, 6) for row in SHARES]
        for phis, found in ((dispersions(counts), held), ([Dispersion(1.0, 0)] * 5, plain)):
            low, high = interval(quantities(CURVE, drawn(counts, phis, 400, random))["half_memorized_K"])
            found.append(low <= truth <= high)
    print(f"half-crossing: coverage {np.mean(held):.3f}, of samples alone {np.mean(plain):.3f}")
    assert 0.92 < np.mean(held) < 0.995
    assert np.mean(plain) < 0.75


def test_intervals_of_values_that_often_do_not_exist_are_not_numbers():
    values = np.arange(1000.0)
    np.testing.assert_allclose(interval(np.append(values, [np.nan] * 50)), [24.975, 974.025])
    assert np.isnan(interval(np.append(values, [np.nan] * 60))).all()


def test_two_sets_of_one_recipe_are_called_different_in_five_of_a_hundred_comparisons():
    """Six models in each; samples alone, as if they were of one model, differ far more often."""
    random, tested, plain = np.random.default_rng(3), [], []
    for number in range(400):
        sides = [replicates(random, SHARES[2], 6, 5) for _ in "AB"]
        tested.append(compare_fractions(*(table([64], [part]) for part in sides)).p[0])
        if number < 100:
            plain.append(compare_fractions(*(table([64], [part.sum(0, keepdims=True)]) for part in sides)).p[0])
    tested, plain = (np.mean(np.array(values) < 0.05) for values in (tested, plain))
    print(f"called different: {tested:.3f} by the F test, {plain:.3f} by samples alone")
    assert 0.02 < tested < 0.08
    assert plain > 0.4


def test_an_f_test_without_replicates_is_the_chi_squared_test_of_two_samples():
    first, second = np.array([[300, 250, 450]]), np.array([[330, 200, 470]])
    found = compare_fractions(table([64], [first]), table([64], [second])).p[0]
    assert found == pytest.approx(chi2_contingency(np.concatenate([first, second])).pvalue, rel=1e-6)
    sides = [np.array([[400, 600, 0], [440, 560, 0]]), np.array([[500, 500, 0], [450, 550, 0]])]
    totals = chi2_contingency(np.stack([side.sum(0)[:2] for side in sides]), correction=False).statistic
    phi = sum(chi2_contingency(side[:, :2], correction=False).statistic for side in sides) / 2
    # F of 1 and 4 degrees of freedom is the square of Student's t of 4: two of this size and two of all, which it is.
    expected = 2 * t.sf(np.sqrt(totals / phi), 4)
    assert compare_fractions(*(table([64], [side]) for side in sides)).p[0] == pytest.approx(expected, rel=1e-6)


def test_the_error_of_replicates_is_the_deviation_over_many_sets_of_them():
    """Means over 20 models of different numbers of samples, which differ from each other more than their samples."""
    random = np.random.default_rng(4)
    owner = np.repeat(np.arange(20), random.integers(10, 40, 20))
    weights = random.choice([1.0, 5.0], len(owner))
    found = []
    for _ in range(1500):
        values = random.normal(0, 1, 20)[owner] + random.normal(0, 2, len(owner))
        mean, _, sampling = estimate(values, weights)
        found.append((mean, error_of_replicates(values, weights, owner) ** 2, sampling**2))
    means, between, sampling = np.array(found).T
    assert np.sqrt(between.mean()) == pytest.approx(means.std(), rel=0.06)
    assert np.sqrt(sampling.mean()) < 0.7 * means.std()
    # Without an effect of replicates the two are alike.
    found = []
    for _ in range(1500):
        values = random.normal(0, 2, len(owner))
        found.append((error_of_replicates(values, weights, owner) ** 2, estimate(values, weights)[2] ** 2))
    between, sampling = np.mean(found, 0)
    assert between == pytest.approx(sampling, rel=0.1)


def test_the_error_of_replicates_on_numbers_done_by_hand():
    """Weighted mean 3; z is -6 in the first replicate and 6 in the second; the weights sum to 6."""
    values, weights, owner = np.array([1.0, 3, 5]), np.array([3.0, 0.0, 3.0]), np.array([4, 9, 9])
    assert error_of_replicates(values, weights, owner) == pytest.approx(np.sqrt(2 / 1 * (36 + 36)) / 6)
    both = error_of_replicates(np.stack([values, 2 * values], 1), weights, owner)
    np.testing.assert_allclose(both, np.sqrt(144) / 6 * np.array([1, 2]))
    assert np.isnan(error_of_replicates(values, weights, np.zeros(3, int)))


def test_standard_errors_are_widened_by_the_root_of_the_dispersion_of_each_size():
    rows = {"K": [2, 16, 64, 16, 64], "type": ["a", "a", "a", "b", "b"], "replicates": [1, 3, 2, 3, 2], "x": 5.0,
            "x_se": [0.1, 0.1, 0.2, 0.1, 0.1], "x_between": [np.nan, 0.2, 0.6, 0.05, 0.02], "x_nearest": 4.0,
            "x_nearest_se": 0.5, "y_se": 0.1, "y_between": np.nan, "y_nearest_se": 0.1}
    found, phi = with_replicates(pd.DataFrame(rows))
    # (0.2 / 0.1)^2 = 4 with two degrees of freedom and (0.6 / 0.2)^2 = 9 with one
    assert phi.to_dict("records") == [
        {"quantity": "x", "type": "a", "dispersion": pytest.approx(17 / 3), "degrees": 3},
        {"quantity": "y", "type": "a", "dispersion": 1, "degrees": 0},
        {"quantity": "x", "type": "b", "dispersion": 1, "degrees": 3},
        {"quantity": "y", "type": "b", "dispersion": 1, "degrees": 0},
    ]
    # of all sizes 17 / 3 with min(4, 3) degrees of freedom; K = 2 has no replicates
    wider = np.sqrt([17 / 3, (2 * 4 + 3 * 17 / 3) / 5, (1 * 9 + 3 * 17 / 3) / 4, 1, 1])
    np.testing.assert_allclose(found.x_sampling, rows["x_se"])
    np.testing.assert_allclose(found.x_se, rows["x_se"] * wider)
    np.testing.assert_allclose(found.x_nearest_se, 0.5 * wider)
    assert found.degrees.tolist() == [3, 5, 4, 5, 4]
    np.testing.assert_allclose(found["quantile"], t.ppf(0.975, [3, 5, 4, 5, 4]))
    assert not any(column.endswith("_between") for column in found)
    assert found.type.tolist() == rows["type"]
    # Rows of several ranks or reference images make one dispersion.
    rows = {"K": [16] * 4, "type": ["a", "b", "a", "b"], "rank": [1, 1, 2, 2], "replicates": 3, "x_se": 1.0,
            "x_between": [1.0, 2, 3, 4], "x_nearest_se": 1.0}
    found, phi = with_replicates(pd.DataFrame(rows))
    assert phi.dispersion.tolist() == [pytest.approx((1 + 9) / 2), pytest.approx((4 + 16) / 2)]
    assert phi.degrees.tolist() == [2, 2]
    assert found["rank"].tolist() == [1, 1, 2, 2]
    np.testing.assert_allclose(found.x_se, np.sqrt([5, 10, 5, 10]))


def neighbours(folder, random, size, number, count):
    """A file of neighbours of one replicate, whose samples are copies or not as those of no other replicate are."""
    copies = random.random(count) < 0.3 + 0.04 * number
    distances = (np.where(copies, 0.1, 1.5) * np.exp(0.2 * random.normal(size=(2, count)))).astype(np.float32)
    stem = neighbours_file(folder, size, number, *distances, random.uniform(1.8, 2.2 + number, size))
    return read_arrays(folder / f"data/neighbours/x/{stem}.safetensors")[0]


@pytest.fixture
def sweep(tmp_path):
    """A sweep of K = 16 with eleven replicates, K-10 the last, and K = 64 with one; {(K, replicate): arrays}."""
    random = np.random.default_rng(5)
    (tmp_path / "x.yaml").write_text("dataset: digits\nsizes: [16, 64]\nreplicates: {16: 11}\n")
    return {
        (size, number): neighbours(tmp_path, random, size, number, 60 + number)
        for size, models in ((64, 1), (16, 11)) for number in range(models)
    }


def test_replicates_are_classified_together_in_the_order_of_their_numbers(sweep, tmp_path):
    folder = tmp_path / "data/neighbours/x"
    shutil.copy(folder / "16.safetensors", folder / "16-11.safetensors")  # of a longer sweep: not asked for
    options = ["--types", tmp_path / "data/types/x", "--out", tmp_path / "metrics"]
    run_stage("classify", folder, "--sweep", tmp_path / "x.yaml", *options)
    (folder / "16-11.safetensors").unlink()
    run = Run(tmp_path / "metrics", data=tmp_path / "data")
    limits = read_csv(tmp_path / "metrics/thresholds/x.csv").set_index("K")
    single = read_csv(tmp_path / "metrics/replicates/fractions/x.csv")
    whole = read_csv(tmp_path / "metrics/fractions/x.csv").set_index("K")
    assert single[["K", "replicate", "count"]].to_numpy().tolist() == [
        *([16, number, 60 + number] for number in range(11)), [64, 0, 60],
    ]
    counts = []
    for size, models in ((16, 11), (64, 1)):
        arrays, record = read_arrays(tmp_path / f"data/types/x/{size}.safetensors")
        parts = [sweep[size, number] for number in range(models)]
        codes = [
            classify(part["training_distances"][:, 0], part["synthetic_distances"][:, 0], record["delta_m"],
                     record["delta_s"]) for part in parts
        ]
        np.testing.assert_array_equal(arrays["codes"], np.concatenate(codes))
        np.testing.assert_array_equal(arrays["replicate"], np.repeat(np.arange(models), [len(part) for part in codes]))
        np.testing.assert_array_equal(run.replicate("x", size), arrays["replicate"])
        for found, key in zip(run.distances("x", size), ("training_distances", "synthetic_distances"), strict=True):
            np.testing.assert_array_equal(found, np.concatenate([part[key][:, 0] for part in parts]))
        counts.append(np.stack([np.bincount(part, minlength=3) for part in codes]))
        shares = counts[-1] / counts[-1].sum(1, keepdims=True)
        np.testing.assert_allclose(single.loc[size == single.K, list(TYPES)], shares, rtol=1e-5)
        mean = np.average(shares, 0, [len(part) for part in codes])
        np.testing.assert_allclose(whole.loc[size, list(TYPES)].astype(float), mean, rtol=1e-5)
        assert whole.replicates[size] == models
        bound = np.median(np.concatenate([part["training_spacing"] for part in parts])) / 4
        assert limits.delta_m_bound[size] == pytest.approx(bound, rel=1e-5)
    phi, phis = dispersion(counts), np.array([each.value for each in dispersions(counts)])
    told = read_json(tmp_path / "metrics/summary/x.json")
    assert (told["dispersion"], told["dispersion_degrees"]) == (round(phi.value, 2), phi.degrees)
    assert phi.value > 1.5 and phi.degrees >= 10
    error = np.sqrt(phis * whole.spurious * (1 - whole.spurious) / whole["count"])
    np.testing.assert_allclose(whole.spurious_se, error, rtol=1e-4)
    np.testing.assert_allclose(whole.spurious_sampling, error / np.sqrt(phis), rtol=1e-4)


def test_thresholds_of_replicates_are_those_of_all_their_samples_in_one_file(sweep, tmp_path):
    parts = [sweep[16, number] for number in range(11)]
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    write_arrays(tmp_path / "one/16.safetensors", whole, size=16, distance="l2", replicate=0)
    shutil.copy(tmp_path / "data/neighbours/x/64.safetensors", tmp_path / "one/64.safetensors")
    for folder, out in ((tmp_path / "data/neighbours/x", "several"), (tmp_path / "one", "one")):
        run_stage("classify", folder, "--name", "x", "--out", tmp_path / out)
    for name in ("thresholds", "histograms"):
        assert (tmp_path / f"several/{name}/x.csv").read_bytes() == (tmp_path / f"one/{name}/x.csv").read_bytes()
    assert "valley" in read_csv(tmp_path / "one/thresholds/x.csv").delta_m_source.tolist()


def test_missing_replicates_and_two_files_of_one_are_one_line(sweep, tmp_path):
    folder = tmp_path / "data/neighbours/x"
    (folder / "16-3.safetensors").unlink()
    shutil.copy(folder / "16-4.safetensors", tmp_path / "again.safetensors")
    for arguments, words in (([folder, "--sweep", tmp_path / "x.yaml"], "no neighbours for K = 16-3"),
                             ([folder, tmp_path / "again.safetensors"], "both of K = 16; classify them apart")):
        assert words in refused("classify", *arguments, "--out", tmp_path / "metrics")
        assert not (tmp_path / "metrics").exists()


def test_replicates_of_ones_own_are_named_by_an_option_of_neighbours(tmp_path):
    random = np.random.default_rng(6)
    np.save(tmp_path / "s.npy", random.uniform(-1, 1, (5, 1, 4, 4)).astype(np.float32))
    files = []
    for number in range(2):
        np.save(tmp_path / f"model{number}.npy", random.uniform(-1, 1, (30, 1, 4, 4)).astype(np.float32))
        files.append(tmp_path / f"of model {number}.safetensors")
        options = ["--synthetic", tmp_path / f"model{number}.npy", "--training", tmp_path / "s.npy", "--out", files[-1]]
        run_stage("neighbours", *options, "--replicate", number)
    run_stage("classify", *files[::-1], "--types", tmp_path / "types", "--out", tmp_path / "metrics")
    table = read_csv(tmp_path / "metrics/fractions/samples.csv")
    assert (table.replicates.tolist(), table["count"].tolist()) == ([2], [60])
    assert read_arrays(tmp_path / "types/5.safetensors")[0]["replicate"].tolist() == [0] * 30 + [1] * 30


TINY = """
dataset: digits
sizes: [4]
network: {name: mlp, width: 8, blocks: 1}
diffusion: {steps: 20, beta_max: 0.3}
train: {iterations: 3, batch: 8}
sample: {floor: 8}
"""


def test_replicate_r_of_a_seed_is_the_first_of_the_seed_r_later(tmp_path):
    (tmp_path / "x.yaml").write_text(TINY)
    subset, made = tmp_path / "subset.safetensors", {}
    run_stage("subset", "digits", "--out", subset)
    for name, options in (("a", ("--seed", 7, "--replicate", 2)), ("b", ("--seed", 9)), ("c", ("--seed", 7))):
        model, samples = (tmp_path / f"{name}-{kind}.safetensors" for kind in ("model", "samples"))
        sweep = ("--sweep", tmp_path / "x.yaml", "--device", "cpu")
        run_stage("train", *sweep, "--subset", subset, "--size", 4, "--out", model, *options)
        run_stage("sample", *sweep, "--model", model, "--out", samples, *options)
        made[name] = model.read_bytes(), samples.read_bytes()
    assert made["a"] == made["b"]
    assert made["a"][0] != made["c"][0]
    assert made["a"][1] != made["c"][1]


def test_replicates_of_a_dataset_are_other_orders_of_the_same_images(tmp_path):
    made = {}
    for name, options in (("0", ()), ("1", ("--replicate", 1)), ("later", ("--seed", 3408))):
        run_stage("subset", "digits", "--seed", 3407, "--out", tmp_path / name, *options)
        made[name] = read_arrays(tmp_path / name)[0]["images"].reshape(1797, -1)
    np.testing.assert_array_equal(made["1"], made["later"])
    assert (made["0"] != made["1"]).any(1).mean() > 0.9
    np.testing.assert_array_equal(*(np.sort(images.view("V64"), 0) for images in (made["0"], made["1"])))


def test_runs_are_named_by_replicate_and_have_orders_of_their_own_where_a_sweep_says_so(tmp_path):
    from attractors.commands.scale import runs_of

    text = TINY.replace("[4]", "[4, 16]\nreplicates: {16: 3}") + "basin: {delta_d: 1}\n"
    (tmp_path / "shared.yaml").write_text(text)
    (tmp_path / "own.yaml").write_text(text + "new_subsets: true\n")
    found = runs_of(["shared", "own"], tmp_path, tmp_path / "none")
    names = ["4", "16", "16-1", "16-2"]
    assert list(found["runs"]) == [f"{sweep}-{name}" for sweep in ("shared", "own") for name in names]
    runs = [(run["file"], run["replicate"], run["subset"]) for run in found["runs"].values()]
    assert runs[:4] == [(name, number, "digits") for name, number in zip(names, (0, 0, 1, 2), strict=True)]
    assert [subset for *_, subset in runs[4:]] == ["digits", "digits", "digits-1", "digits-2"]
    assert [(name, entry["replicate"]) for name, entry in found["subsets"].items()] == [
        ("digits", 0), ("digits-1", 1), ("digits-2", 2),
    ]


def test_means_by_type_have_a_bar_for_each_type_and_a_line_for_the_control():
    from attractors.figures.style import COLOURS, means_by_type, panels

    rows = pd.DataFrame([{"K": size, "type": kind, "gap": 1.0, "gap_se": 0.1, "quantile": 2.0}
                         for size in (2, 16, 64) for kind in COLOURS])
    _, [[axis]] = panels(1, 1, 3, 2)
    means_by_type(axis, rows, rows[rows.type == "memorized"], "gap")
    for bars, colour in zip(axis.containers, COLOURS.values(), strict=True):
        line, _, [segments] = bars.lines
        assert line.get_color() == colour
        np.testing.assert_allclose([segment[:, 1] for segment in segments.get_segments()], [[0.8, 1.2]] * 3)
    assert [line.get_marker() for line in axis.get_lines()].count("x") == 2  # the control's, and that of the legend


@pytest.mark.parametrize("count", [1, 3])
def test_the_transition_has_points_for_each_replicate_where_there_are_several(count):
    from attractors.figures import transition
    from attractors.figures.style import panels

    _, ((top, bottom),) = panels(1, 2, 4, 2)
    shares = table(CURVE, [np.array([[500, 300, 200]] * count) for _ in CURVE])
    whole = shares[shares.replicate == 0].assign(**{f"{kind}_{end}": 0.1 for kind in TYPES for end in ("low", "high")})
    transition.draw(whole, shares, {}, "", top, bottom)
    points = [[len(line.get_xdata()) for line in axis.get_lines() if line.get_marker() == "."]
              for axis in (top, bottom)]
    assert points == ([[len(shares)] * 3, [len(shares)]] if count > 1 else [[], []])
