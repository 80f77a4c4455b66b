"""The order in which patterns are measured, when a group ends, and going on after a kill."""

import numpy as np
import pytest

from attractors.landscape import measuring
from attractors.landscape.measuring import measure, relative_error
from attractors.landscape.selection import interleave

MEMBERS = {"a": np.arange(0, 90), "b": np.arange(60, 160)[::-1], "c": np.array([5, 70, 200])}


def value(numbers):
    """Group a varies little around its mean, b much."""
    noise = np.array([np.random.default_rng(int(i)).normal(size=3) for i in numbers])
    return {"x": 1 + np.where(numbers < 60, 0.01, 5)[:, None] * noise, "n": numbers * 1.0}


def precise(results):
    return [results["x"]]


def test_all_are_measured_once_in_turn_and_no_result_depends_on_the_chunks():
    for chunk in (1, 7, 1000):
        asked = []

        def evaluate(numbers, asked=asked):
            asked.extend(numbers.tolist())
            return value(numbers)

        found = measure(MEMBERS, evaluate, precise, chunk)
        assert asked == found.numbers.tolist() == interleave(list(MEMBERS.values())).tolist()
        np.testing.assert_array_equal(found.results["x"], value(found.numbers)["x"])
        assert found.counts == {"a": 90, "b": 100, "c": 3} and set(found.reached.values()) == {None}


def test_a_group_ends_after_the_first_block_that_is_precise_enough():
    found = measure(MEMBERS, value, precise, 10, target=0.02)
    assert found.counts == {"a": 32, "b": 100, "c": 3}
    assert found.reached["a"] == relative_error(value(MEMBERS["a"][:32])["x"]) <= 0.02
    assert found.reached["b"] is found.reached["c"] is None
    parts = [MEMBERS[group][:count] for group, count in found.counts.items()]
    assert found.numbers.tolist() == interleave(parts).tolist()


@pytest.mark.parametrize("target", [0, 0.02, 0.5])
def test_a_run_that_was_killed_goes_on_to_the_same_result(target):
    states, whole = [], measure(MEMBERS, value, precise, 11, target)
    measure(MEMBERS, value, precise, 11, target, save=states.append)
    for state in states:
        asked = []

        def evaluate(numbers, asked=asked):
            asked.extend(numbers.tolist())
            return value(numbers)

        found = measure(MEMBERS, evaluate, precise, 11, target, state)
        assert asked == whole.numbers[state["count"] :].tolist()
        np.testing.assert_array_equal(found.numbers, whole.numbers)
        np.testing.assert_array_equal(found.results["x"], whole.results["x"])
        assert (found.counts, found.reached) == (whole.counts, whole.reached)


def test_relative_error_by_hand():
    values = np.array([[1.0, -4.0], [3.0, -4.0], [2.0, -4.0], [np.nan, 0.0]])
    assert relative_error(values) == pytest.approx(np.sqrt((1 / np.sqrt(3) / 2) ** 2 / 2))
    assert relative_error(values[:1]) == np.inf
    assert relative_error(np.array([[1.0], [-1.0]])) == np.inf
    assert relative_error(np.zeros((5, 2))) == 0


def test_the_error_promised_is_that_of_means_of_many_runs():
    random = np.random.default_rng(0)
    draws = random.normal([2, 5, 1], [1, 1, 0.2], (500, 50, 3))
    means = draws.mean(1)
    spread = np.sqrt(np.square(means.std(0) / means.mean(0)).mean())
    assert np.mean([relative_error(draw) for draw in draws]) == pytest.approx(spread, rel=0.1)


def test_block_is_a_constant_of_the_order():
    assert measuring.BLOCK == 32  # another number ends groups elsewhere, so files made with it differ
