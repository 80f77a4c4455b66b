"""The table of claims: effects against closed forms and brute force, and verdicts that planted truths must get."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.spatial.distance import cdist
from scipy.stats import t as student

from attractors.arrays import write_arrays
from attractors.distances.detection import TYPES, classify
from attractors.results.claims import (
    FAILS,
    HOLDS,
    ONE_SEED,
    OPEN,
    Claim,
    by_draws,
    by_error,
    contrast,
    halved,
    of_fractions,
    slope,
    verdicts,
)
from attractors.results.run import Run
from attractors.tables import read_csv, write_csv


def test_by_error_is_the_t_test():
    claim = by_error("c", "s", "m", 1.2, 0.4, 7)
    assert claim.p == pytest.approx(2 * student.sf(3, 7))
    assert (claim.low, claim.high) == pytest.approx(student.interval(0.95, 7, 1.2, 0.4))
    normal = by_error("c", "s", "m", 1.2, 0.4, 0)
    assert (normal.low, normal.p) == pytest.approx((1.2 - 1.959964 * 0.4, 0.0026998), rel=1e-5)


def test_by_draws_has_the_share_on_the_other_side():
    draws = np.concatenate([np.full(30, -1.0), np.linspace(1, 2, 1970)])
    claim = by_draws("c", "s", "m", 1.4, draws, 5)
    assert claim.p == pytest.approx(2 * 31 / 2001)
    assert claim.low == pytest.approx(np.quantile(draws, 0.025))
    assert by_draws("c", "s", "m", 0.0, np.array([np.nan] * 50), 5).p == 1  # nothing there is no effect


def test_verdicts_follow_holm_the_sign_and_the_margin():
    nan = float("nan")
    rows = [
        Claim("a", "", "", 1, 0.5, 1.5, 0.001, 4), Claim("b", "", "", -1, -2, -0.1, 0.012, 4),
        Claim("c", "", "", 1, 0.1, 2, 0.04, 4), Claim("d", "", "", 0, -0.01, 0.02, nan, 4, 0.05),
        Claim("e", "", "", 0.2, 0.1, 0.3, nan, 4, 0.05), Claim("f", "", "", 0.04, 0, 0.08, nan, 4, 0.05),
        Claim("g", "", "", 1, 0.5, 1.5, 0.0001, 0), Claim("h", "", "", nan, nan, nan, nan, 4, 0.05),
    ]
    table = verdicts(rows).set_index("claim")
    # Four are tested: 0.0001 * 4, 0.001 * 3, 0.012 * 2, 0.04.
    np.testing.assert_allclose(table.p_corrected[list("gabc")], [0.0004, 0.003, 0.024, 0.04])
    assert table.verdict.tolist() == [HOLDS, FAILS, HOLDS, HOLDS, FAILS, OPEN, HOLDS + ONE_SEED, OPEN]


def measurements(difference, random, error=1.0, degrees=20):
    """A table in which memorized samples lie `difference` above spurious ones at six sizes, and training falls."""
    rows = []
    for size in (16, 32, 64, 128, 256, 512):
        for kind, mean in (("memorized", difference), ("spurious", 0.0), ("training", 30 - 2 * np.log2(size))):
            drawn = mean + error * random.standard_normal()
            rows.append({"K": size, "type": kind, "n": 50, "x": drawn, "x_se": error, "degrees": degrees})
    return pd.DataFrame(rows)


def test_contrast_is_the_weighted_mean_of_differences():
    table = measurements(3, np.random.default_rng(0))
    table.loc[table.K == 32, "x_se"] = 5.0
    effect, error, degrees, positive, sizes = contrast(table, "x", "memorized", "spurious")
    wide = table.pivot(index="K", columns="type", values=["x", "x_se"])
    difference = wide["x"].memorized - wide["x"].spurious
    weights = 1 / (wide["x_se"].memorized ** 2 + wide["x_se"].spurious ** 2)
    assert effect == pytest.approx(np.average(difference, weights=weights))
    assert (error, degrees, sizes) == (pytest.approx(weights.sum() ** -0.5), 20, 6)
    assert positive == (difference > 0).sum()
    assert contrast(table, "x", "memorized", "generalized") is None


def test_slope_is_that_of_a_weighted_fit():
    table = measurements(0, np.random.default_rng(1))
    table.loc[table.K == 64, "x_se"] = 0.2
    part = table[table.type == "training"]
    expected, covariance = np.polyfit(np.log2(part.K), part.x, 1, w=1 / part.x_se, cov="unscaled")
    assert slope(table, "x", "training")[:2] == pytest.approx((expected[0], covariance[0, 0] ** 0.5))
    assert slope(table[table.K < 64], "x", "training") is None


def test_where_there_is_no_effect_one_in_twenty_is_called_one():
    found = [
        contrast(measurements(0, np.random.default_rng(seed)), "x", "memorized", "spurious") for seed in range(800)
    ]
    p_values = np.array([by_error("", "", "", effect, error, 0).p for effect, error, *_ in found])
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=0.02)


def run_of(folder, random, shares, models=3, count=400):
    """Write the replicates' fractions of a sweep `x` whose types have the given shares, {K: (3 numbers)}."""
    rows = []
    for size, part in shares.items():
        for number in range(models):
            drawn = dict(zip(TYPES, random.multinomial(count, part) / count, strict=True))
            rows.append({"K": size, "replicate": number, "count": count, **drawn})
    write_csv(folder / "metrics/replicates/fractions/x.csv", pd.DataFrame(rows))
    return Run(folder / "metrics", data=folder / "data")


TRANSITION = {8: (1, 0, 0), 32: (0.7, 0.2, 0.1), 64: (0.3, 0.4, 0.3), 128: (0.05, 0.15, 0.8), 512: (0, 0, 1)}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (TRANSITION, [HOLDS] * 4),
        ({size: TRANSITION[8] for size in TRANSITION}, [OPEN, OPEN, OPEN, FAILS]),
        ({**TRANSITION, 512: (0, 0.6, 0.4)}, [HOLDS, FAILS, FAILS, FAILS]),
    ],
    ids=["the transition", "memorized throughout", "spurious at the end"],
)
def test_planted_transitions_get_their_verdicts(tmp_path, shares, expected):
    run = run_of(tmp_path, np.random.default_rng(0), shares)
    table = verdicts(list(of_fractions(run, "x", np.random.default_rng(1))))
    assert table.verdict.tolist() == expected


@pytest.fixture
def repeating(tmp_path):
    """A run of two replicates at one K, of points in the plane among which many repeat each other."""
    random, within, to_training, codes, owner = np.random.default_rng(2), [], [], [], []
    for number in range(2):
        centres = random.uniform(0, 30, (60, 2))
        points = centres[random.integers(0, 60, 400)] + random.normal(0, 0.05, (400, 2))
        square = cdist(points, points)
        np.fill_diagonal(square, np.inf)
        order = np.argsort(square, 1)[:, :5]
        far = random.uniform(0, 1, 400).astype(np.float32)
        near = np.take_along_axis(square, order, 1).astype(np.float32)
        arrays = {
            "training_distances": far[:, None], "synthetic_distances": near,
            "synthetic_indices": order, "training_spacing": np.ones(4, np.float32),
        }
        name = f"4-{number}" if number else "4"
        write_arrays(
            tmp_path / f"data/neighbours/x/{name}.safetensors", arrays, size=4, distance="l2", replicate=number
        )
        found = classify(far, arrays["synthetic_distances"][:, 0], 0.3, 0.2)
        within.append(square)
        to_training.append(far)
        codes.append(found)
        owner.append(np.full(400, number, np.int16))
    types = {"codes": np.concatenate(codes), "replicate": np.concatenate(owner)}
    write_arrays(tmp_path / "data/types/x/4.safetensors", types, size=4, delta_m=0.3, delta_s=0.2)
    return Run(tmp_path / "metrics", data=tmp_path / "data"), within, to_training, codes


def test_half_of_the_samples_is_classified_as_by_all_pairs_of_them(repeating):
    run, within, to_training, codes = repeating
    found, random = halved(run, "x", 4, 0.2, np.random.default_rng(5)), np.random.default_rng(5)
    for lost, square, far, whole in zip(found, within, to_training, codes, strict=True):
        kept = random.random(400) < 0.5
        half = classify(far[kept], square[np.ix_(kept, kept)].min(1), 0.3, 0.2)
        expected = (whole == 1).mean() - (half == 1).mean()
        assert lost == pytest.approx(expected, abs=0.01)  # five neighbours are stored, where some groups have more


def test_the_command_writes_the_table_and_counts_verdicts(tmp_path):
    from attractors.stages.claims import main

    random = np.random.default_rng(0)
    run_of(tmp_path, random, TRANSITION)
    fractions = pd.DataFrame(
        [{"K": size, "count": 1200, **dict(zip(TYPES, part, strict=True))} for size, part in TRANSITION.items()]
    )
    write_csv(tmp_path / "metrics/fractions/x.csv", fractions)
    options = ["x", "--data", tmp_path / "data", "--metrics", tmp_path / "metrics"]
    result = CliRunner().invoke(main, list(map(str, options)))
    assert result.exit_code == 0, result.output
    table = read_csv(tmp_path / "metrics/claims/x.csv", "effect", "low", "high")
    assert table.verdict.tolist() == [HOLDS] * 4
    assert "4 holds" in result.output
