"""The table of claims: effects against closed forms and brute force, and a planted truth under which each row fails."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import neighbours_file, run
from scipy.spatial.distance import cdist
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from attractors.arrays import write_arrays
from attractors.distances.detection import TYPES, classify
from attractors.measurements.basin import beyond_distance
from attractors.measurements.registry import quantities
from attractors.results.claims import (
    FAILS,
    FEW,
    HOLDS,
    OPEN,
    Claim,
    common,
    contrast,
    over_replicates,
    slope,
    verdicts,
)
from attractors.results.run import Run
from attractors.results.statements import claims, halved, of_samples
from attractors.tables import read_csv, write_csv

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from planted import SIZES, TRANSITION, run_of, volumes_at


def table_of(folder, **planted):
    others = [quantity.claims for quantity in quantities().values()]
    return claims(run_of(folder, **planted), "x", np.random.default_rng(1), others).set_index("claim")


SHARES = {
    "memorized throughout": [TRANSITION[0]] * 6, "constant": [(0.4, 0.3, 0.3)] * 6,
    "spurious at the end": (*TRANSITION[:5], (0, 0.6, 0.4)),
    "spurious after": (*TRANSITION[:2], (0.6, 0.1, 0.3), (0.3, 0.1, 0.6), (0.03, 0.9, 0.07), (0, 0.9, 0.1)),
}
MORE = "samples the energy curves in more directions than around generalized ones"
FAILURES = [  # statement, what is planted, the verdict it must get; where nothing is planted every row holds
    ("Memorization falls as K grows", {"shares": SHARES["constant"]}, OPEN),
    ("Memorization falls as K grows", {"shares": TRANSITION[::-1]}, FAILS),
    ("The spurious fraction peaks inside the range of K", {"shares": SHARES["constant"]}, OPEN),
    ("The spurious fraction peaks inside the range of K", {"shares": SHARES["spurious at the end"]}, FAILS),
    ("Spurious states appear where memorization falls", {"shares": SHARES["spurious after"]}, FAILS),
    ("Generalization takes over as K grows", {"shares": SHARES["memorized throughout"]}, FAILS),
    ("Distances to the training set form two groups", {"valleys": 0.0}, OPEN),
    ("Distances within S' form two groups", {"valleys": 0.0}, OPEN),
    ("Basins of memorized samples are larger than of spurious ones", {"volume": (0, 60, -60)}, FAILS),
    ("Basins of memorized samples are larger than of spurious ones", {"volume": (0, 0, 0)}, OPEN),
    ("Basins of spurious samples are larger than of generalized ones", {"volume": (60, -60, 0)}, FAILS),
    ("Basins of memorized samples are larger than of spurious ones at the same distance to S", {"beyond": -8}, FAILS),
    ("Basins of memorized samples are larger than of spurious ones at the same distance to S", {"beyond": 0}, OPEN),
    ("Basins of spurious samples are sizable", {"floor": 30}, FAILS),
    ("Basins of spurious samples are larger than those of a linear denoiser", {"linear": 40}, FAILS),
    ("Basins of training images shrink as K grows", {"training": 10}, FAILS),
    (f"Around memorized {MORE} (Jacobian)", {"directions": (0, 4, 6)}, FAILS),
    (f"Around spurious {MORE} (Jacobian)", {"directions": (6, 0, 4)}, FAILS),
    (f"Around memorized {MORE} (Alg. 2)", {"directions": (0, 4, 6)}, FAILS),
    (f"Around spurious {MORE} (Alg. 2)", {"directions": (6, 0, 0)}, OPEN),
    ("Singular values at training images fall as K grows (Jacobian)", {"median": 1}, FAILS),
    ("Singular values at training images fall as K grows (Alg. 2)", {"median": 1}, FAILS),
    ("The energy of memorized samples grows with K", {"growth": (-0.2, -0.2)}, FAILS),
    ("The energy of generalized samples falls with K", {"growth": (0.2, 0.2)}, FAILS),
    ("In the transition spurious samples have a lower energy than memorized ones", {"gap": (-1, 0, 3)}, FAILS),
    ("In the transition spurious samples have a lower energy than generalized ones", {"gap": (0, 3, -1)}, FAILS),
    ("Spurious samples stay where they are when they are denoised again and again", {"stayed": 0.1}, FAILS),
    ("Samples that are no copies repeat a limited number of states", {"exponent": 0.9}, FAILS),
    ("Spurious samples are blends of two or three training images", {"blends": (0.1, 0.9)}, FAILS),
    ("Spurious samples are blends of two or three training images", {"blends": (0.5, 0.5)}, OPEN),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return table_of(tmp_path_factory.mktemp("true"))


@pytest.mark.parametrize(("claim", "planted", "expected"), FAILURES)
def test_every_row_holds_where_it_is_true_and_fails_where_it_is_not(whole, tmp_path, claim, planted, expected):
    assert whole.verdict[claim] == HOLDS
    assert table_of(tmp_path, **planted).verdict[claim] == expected


def test_every_row_has_a_planted_failure(whole):
    named = {claim for claim, *_ in FAILURES} | {"Half as many samples show the same spurious fraction"}
    assert set(whole.index) == named


def test_one_replicate_is_too_few(tmp_path):
    table = table_of(tmp_path, models=1)
    assert set(table.verdict[~table.index.str.startswith("Distances")]) == {FEW}


def test_an_interval_over_replicates_is_that_of_the_t_test():
    values = np.array([1.0, 2.5, 3.0, 1.5])
    claim, test = over_replicates("c", "s", "m", values), ttest_1samp(values, 0)
    assert claim.ends(0.05) == pytest.approx(test.confidence_interval(0.95))
    assert claim.p_value == pytest.approx(test.pvalue)
    agreed = over_replicates("c", "s", "m", np.ones(3), sampling=0.1)  # agree, as samples alone would not
    assert agreed.ends(0.05) == pytest.approx(student.interval(0.95, 2, 1, 0.1))
    assert over_replicates("c", "s", "m", np.ones(3)).p_value == 0


def test_verdicts_agree_with_intervals_that_hold_together():
    rows = [Claim("a", "", "", 1, 0.1, 4), Claim("b", "", "", -1, 0.1, 4), Claim("c", "", "", 1, 0.3, 4),
            Claim("d", "", "", 0.001, 0.001, 4, 0.05), Claim("e", "", "", 0.2, 0.01, 4, 0.05),
            Claim("f", "", "", 0.04, 0.03, 4, 0.05), Claim("g", "", "", 1, float("nan"), 0)]
    table = verdicts(rows).set_index("claim")
    assert table.verdict.tolist() == [HOLDS, FAILS, OPEN, HOLDS, FAILS, OPEN, FEW]
    level = 0.05 / 6  # six of the seven have replicates
    assert (table.low["c"], table.high["c"]) == pytest.approx(student.interval(1 - level, 4, 1, 0.3))
    assert table.low_95["c"] > 0, "alone it would be called an effect"
    tested = table[table.degrees > 0]
    np.testing.assert_array_equal(tested.p_corrected < 0.05, (tested.low > 0) | (tested.high < 0))


def long(values, kinds, sizes):
    """The table of values: [R, sizes, types]."""
    return pd.DataFrame([
        {"K": size, "type": kind, "replicate": number, "n": 50, "x": values[number, i, j]}
        for number in range(len(values)) for i, size in enumerate(sizes) for j, kind in enumerate(kinds)
    ])


def test_a_contrast_is_of_the_sizes_that_every_replicate_has():
    values = np.random.default_rng(0).normal(0, 1, (3, 4, 2))
    table = long(values, TYPES[:2], SIZES[:4])
    table = table[~((table.K == 16) & (table.type == "spurious") & (table.replicate == 1))]
    found, sizes = contrast(table, "x", "memorized", "spurious")
    np.testing.assert_array_equal(sizes, [4, 32, 64])
    np.testing.assert_allclose(found, (values[..., 0] - values[..., 1])[:, [0, 2, 3]].mean(1))
    np.testing.assert_array_equal(contrast(table, "x", "memorized", "spurious", first=33)[1], [64])
    assert contrast(table, "x", "memorized", "generalized") is None
    apart = table[(table.replicate != 1) | (table.K == 999)]
    apart = pd.concat([apart, table.assign(K=7)[table.replicate == 1]])  # no size in common
    assert common(apart, "x", TYPES[:2])[1].shape == (1, 4, 2)


def test_a_slope_is_that_of_each_replicate_and_misfit_is_no_error():
    curve = np.exp(np.linspace(0, 3, 6))
    offsets = np.array([0.0, 5.0, -2.0])
    table = long((curve + offsets[:, None])[..., None], ("training",), SIZES)
    found, _ = slope(table, "x", "training")
    np.testing.assert_allclose(found, np.polyfit(np.log2(SIZES), curve, 1)[0])
    assert slope(table[table.K < 32], "x", "training") is None


def test_the_peak_of_pure_noise_is_not_above_its_ends():
    """A largest fraction is biased upwards; chosen by the other replicates it is not."""
    from attractors.results.claims import others_of

    random, found = np.random.default_rng(3), []
    for _ in range(2000):
        shares = random.multinomial(200, (0.4, 0.3, 0.3), (5, 6)) / 200
        peak = others_of(shares)[..., 1].argmax(1)
        found.append((shares[range(5), peak, 1].mean(), shares[..., 1].mean(0).max()))
    unbiased, largest = np.mean(found, 0)
    assert unbiased == pytest.approx(0.3, abs=0.002)
    assert largest > 0.315


def test_what_types_add_beyond_distance_is_the_jump_of_a_curve(tmp_path):
    (tmp_path / "data").mkdir()
    volumes_at(tmp_path, 64, np.full(4, 12.0), np.random.default_rng(4))
    found = beyond_distance(Run(tmp_path / "metrics", data=tmp_path / "data"), "x", 64)
    assert found.shape == (4,)
    np.testing.assert_allclose(found, 12, atol=1.2)


@pytest.fixture
def repeating(tmp_path):
    """A run of four replicates at one K, of points in the plane among which many repeat each other."""
    random, within, to_training, codes, owner, rows = np.random.default_rng(2), [], [], [], [], []
    for number in range(4):
        centres = random.uniform(0, 30, (60, 2))
        points = centres[random.integers(0, 60, 400)] + random.normal(0, 0.05, (400, 2))
        square = cdist(points, points)
        np.fill_diagonal(square, np.inf)
        order = np.argsort(square, 1)[:, :9]
        far = random.uniform(0, 1, 400).astype(np.float32)
        nearest = np.take_along_axis(square, order, 1).astype(np.float32)
        neighbours_file(tmp_path, 4, number, far, nearest, np.ones(4), indices=order)
        types = classify(far, nearest[:, 0], 0.3, 0.2)
        shares = dict(zip(TYPES, np.bincount(types, minlength=3) / 400, strict=True))
        rows.append({"K": 4, "replicate": number, "count": 400, **shares})
        for part, value in zip((within, to_training, codes), (square, far, types), strict=True):
            part.append(value)
        owner.append(np.full(400, number, np.int16))
    return one_size(tmp_path, np.concatenate(codes), np.concatenate(owner), rows), within, to_training, codes


def one_size(folder, codes, owner, rows):
    """Write the types and tables of samples at K = 4, of which neighbours are there; return their Run."""
    write_arrays(folder / "data/types/x/4.safetensors", {"codes": codes, "replicate": owner}, size=4)
    write_csv(folder / "metrics/replicates/fractions/x.csv", pd.DataFrame(rows))
    write_csv(folder / "metrics/thresholds/x.csv", pd.DataFrame({"K": [4], "delta_s": [0.2]}))
    return Run(folder / "metrics", data=folder / "data")


def test_half_of_the_samples_is_classified_as_by_all_pairs_of_them(repeating):
    made, within, to_training, codes = repeating
    found, random = halved(made, "x", 4, 0.2, np.random.default_rng(5)), np.random.default_rng(5)
    for lost, square, far, kinds in zip(found, within, to_training, codes, strict=True):
        kept = random.random(400) < 0.5
        half = classify(far[kept], square[np.ix_(kept, kept)].min(1), 0.3, 0.2)
        expected = 1 - (half == 1).mean() / (kinds == 1).mean()
        assert lost == pytest.approx(expected, abs=0.02)  # nine neighbours are stored, and some groups have more


@pytest.mark.parametrize(("repeats", "expected"), [(True, HOLDS), (False, FAILS)], ids=["many repeats", "pairs"])
def test_half_as_many_samples_show_the_same_where_states_repeat_and_fewer_where_they_are_pairs(
    tmp_path, repeats, expected
):
    """Spurious samples that come in large groups are as many in half of S'; of those in pairs half are lost."""
    rows, everything = [], []
    for number in range(5):
        count = 2000
        partner = np.arange(count).reshape(-1, 40) if repeats else np.arange(count).reshape(-1, 2)
        indices = np.concatenate([np.stack([np.roll(part, -step) for step in range(1, min(len(part), 9))], 1)
                                  for part in partner])
        nearest = np.full(indices.shape, 0.1)
        if not repeats:  # the second neighbour of a pair is far
            nearest = np.concatenate([nearest, np.full((count, 1), 9)], 1)
            indices = np.concatenate([indices, np.zeros((count, 1), indices.dtype)], 1)
        neighbours_file(tmp_path, 4, number, np.ones(count), nearest, np.ones(4), indices=indices)
        everything.append(np.full(count, number, np.int16))
        rows.append({"K": 4, "replicate": number, "count": count, "memorized": 0, "spurious": 1, "generalized": 0})
    owner = np.concatenate(everything)
    found = one_size(tmp_path, np.ones(len(owner), np.int8), owner, rows)
    [claim] = of_samples(found, "x", np.random.default_rng(0))
    if repeats:  # all are spurious in both: no difference and no error
        assert claim.effect == 0
    assert verdicts([claim]).verdict.tolist() == [expected]


def test_the_command_writes_the_table_and_counts_verdicts(tmp_path, whole):
    from attractors.stages.claims import main

    run_of(tmp_path)
    printed = run(main, "x", "--data", tmp_path / "data", "--metrics", tmp_path / "metrics")
    table = read_csv(tmp_path / "metrics/claims/x.csv", "effect", "low", "high").set_index("claim")
    assert f"{(table.verdict == HOLDS).sum()} holds" in printed
    assert (table.verdict == HOLDS).sum() >= len(whole) - 1
    assert "| Memorization falls as K grows |" in printed
