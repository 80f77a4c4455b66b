"""Eqs. 9-11 and the choice of thresholds, against literal loops and distributions with known valleys."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from attractors.data.subsets import nested_order, sizes
from attractors.distances.detection import TYPES, classify, fractions, selection, wilson
from attractors.distances.thresholds import Valley, choose, copy_bound, find_valley, given_thresholds


def test_classes_equal_a_literal_transcription_of_eqs_9_to_11():
    random = np.random.default_rng(0)
    s, s_prime = random.normal(size=(12, 3)), random.normal(size=(60, 3))
    s_prime[:20] = s[random.integers(0, 12, 20)] + 0.01
    s_prime[20:30] = s_prime[40:50] + 0.02
    delta_m, delta_s = 0.3, 0.4
    to_s = np.array([min(np.linalg.norm(x - y) for y in s) for x in s_prime])
    within = np.array(
        [min(np.linalg.norm(x - y) for j, y in enumerate(s_prime) if j != i) for i, x in enumerate(s_prime)]
    )
    expected = []
    for m, d in zip(to_s, within, strict=True):
        memorized = m <= delta_m
        spurious = d <= delta_s and not memorized
        expected.append("memorized" if memorized else "spurious" if spurious else "generalized")
    codes = classify(to_s, within, delta_m, delta_s)
    assert [TYPES[c] for c in codes] == expected
    assert set(expected) == set(TYPES)
    assert fractions(codes) == pytest.approx([expected.count(name) / 60 for name in TYPES])
    # A distance equal to the threshold counts as below it.
    assert classify(np.array([1.0, 2.0]), np.array([9.0, 3.0]), 1.0, 3.0).tolist() == [0, 1]


def test_wilson_interval_equals_scipys():
    for k, n in ((0, 10), (3, 40), (40, 40)):
        low, high = wilson(np.array([k / n]), n)
        expected = binomtest(k, n).proportion_ci(method="wilson")
        assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_selection_sorts_each_type_by_its_own_distance_and_leaves_out_rare_types():
    codes = np.array([0, 0, 1, 1, 2])
    to_s, within = np.array([0.2, 0.1, 5, 6, 7.0]), np.array([1, 1, 0.4, 0.3, 9.0])
    chosen = selection(codes, to_s, within, limit=2, rare=0.3)
    assert {kind: numbers.tolist() for kind, numbers in chosen.items()} == {"memorized": [1, 0], "spurious": [3, 2]}
    assert selection(codes, to_s, within, limit=1)["memorized"].tolist() == [1]
    assert "spurious" not in selection(np.array([0, 0, 2, 2, 2]), to_s, within, rare=0)  # none there


def mixture(random, share, near=0.1, far=1.5, n=1000):
    copies = random.random(n) < share
    return np.where(copies, near, far) * np.exp(0.25 * random.normal(size=n))


def test_the_valley_of_two_lognormals_is_found_and_lies_between_them():
    random = np.random.default_rng(0)
    valley = find_valley(mixture(random, 0.5), 0.6, random)
    assert 0.2 < valley.low <= valley.position <= valley.high < 0.9
    assert valley.depth < 0.1
    assert valley.p_value < 0.01


def test_one_lognormal_has_no_significant_valley():
    # 40 draws from one peak that straddles the bound: about one in twenty may look bimodal at the 5% level.
    random = np.random.default_rng(0)
    found = [find_valley(mixture(random, 1, near=0.6, n=400), 0.6, random) for _ in range(40)]
    assert sum(v is not None and v.p_value < 0.05 for v in found) <= 5


def test_the_copy_bound_keeps_a_copy_three_times_nearer_to_its_original_than_to_any_other_image():
    spacing = np.array([2.0, 2.0, 2.0])
    bound = copy_bound(spacing)
    assert (spacing.min() - bound) >= 3 * bound
    assert (spacing.min() - 1.01 * bound) < 3 * 1.01 * bound
    # Of squared distances it gives a copy one original.
    spacing = np.array([0.12, 0.12])
    assert np.sqrt(copy_bound(spacing)) == pytest.approx(np.sqrt(spacing.min()) / 2)


def test_a_threshold_is_a_valley_that_is_sure_deep_and_precise_or_else_the_bound():
    valley = Valley(0.5, 0.4, 0.6, 0.2, 0.001)
    unsure, shallow, wide = (replace(valley, **part) for part in ({"p_value": 0.4}, {"depth": 0.76}, {"low": 0.2}))
    chosen = choose([None, valley, unsure, shallow, wide, valley], [1.5, 0.8, 0.8, 0.8, 0.8, 0.3])
    assert [t.value for t in chosen] == [1.5, 0.5, 0.8, 0.8, 0.8, 0.3]
    assert [t.source for t in chosen] == ["spacing", "valley", "spacing", "spacing", "spacing", "valley"]


def test_subsets_are_nested_prefixes_of_the_torch_permutation_with_seed_3407():
    import torch

    expected = torch.randperm(1797, generator=torch.Generator().manual_seed(3407))
    np.testing.assert_array_equal(nested_order(1797), expected.numpy())
    assert sorted(nested_order(1797)) == list(range(1797))


def test_sizes_are_refused_unless_ascending_integers():
    for wrong in ([1, 2], [4, 2], [2.5], [], "2", None, [True, 3]):
        with pytest.raises(ValueError, match="sizes is"):
            sizes(wrong)


@pytest.mark.parametrize(("setting", "expected"), [
    (0.03, [0.03, 0.03, 0.03]),
    (0, [0, 0, 0]),
    ("auto", [None, None, None]),
    ({"digits": 0.5}, [0.5, 0.5, 0.5]),
    ({"mnist-128": 3}, [None, None, None]),
    ({"mnist-128": 3, "default": 0.2}, [0.2, 0.2, 0.2]),
    ({"digits": {16: 0.1, "64": 2, "default": 0.3}, "default": 9}, [0.3, 0.1, 2]),
    ({"digits": {16: 0.1}}, [None, 0.1, None]),
    ({"digits": {16: "auto", "default": 0.1}}, [0.1, None, 0.1]),
    ({"default": {64: 0.1}}, [None, None, 0.1]),
])
def test_a_threshold_is_a_number_auto_or_a_mapping_by_sweep_and_by_k(setting, expected):
    found = given_thresholds(setting, "delta_m", "digits", [2, 16, 64], ["digits", "mnist-128"])
    assert found == expected


@pytest.mark.parametrize(("setting", "words"), [
    (-1, "delta_m is '-1'; it must be a distance of at least 0, auto, ratio, or a mapping"),
    (True, "delta_m is 'True'"),
    (float("nan"), "delta_m is 'nan'"),
    (float("inf"), "delta_m is 'inf'"),
    ("wide", "delta_m is 'wide'"),
    ([1], "delta_m is"),
    ({"digit": 1}, "delta_m names no sweep 'digit'; did you mean digits?"),
    ({"zebra": 1}, "delta_m names no sweep 'zebra'; sweeps are digits, mnist-128"),
    ({"digits": {50: 1}}, "delta_m.digits names '50'; it has K = 2, 16, 64, and default"),
    ({"digits": {"a": 1}}, "delta_m.digits names 'a'"),
    ({"digits": {16: {}}}, "delta_m.digits.16 is '{}'; it must be a distance of at least 0, auto"),
    ({"mnist-128": {4000: -1}}, "delta_m.mnist-128.4000 is '-1'"),
    ({"mnist-128": {"b": 1}}, "delta_m.mnist-128 names 'b'; a mapping from K"),
    ({"digits": "wide"},
     "delta_m.digits is 'wide'; it must be a distance of at least 0, auto, ratio, or a mapping"),
])
def test_a_threshold_that_is_none_of_these_is_named(setting, words):
    with pytest.raises(ValueError, match="^" + re.escape(words)):
        given_thresholds(setting, "delta_m", "digits", [2, 16, 64], ["digits", "mnist-128"])
