"""The choice of the samples that are measured, against literal loops and against the means of a whole population."""

import numpy as np
import pytest

from attractors.distances.detection import classify
from attractors.landscape.selection import interleave, rankings, select, weights

COUNTS = {"nearest": 12, "repeating": 9, "uniform": 20}


def distances(count=200, seed=0):
    """Distances to S and within S' of samples of three kinds, with ties."""
    random = np.random.default_rng(seed)
    to_training = np.where(random.random(count) < 0.3, random.uniform(0, 0.1, count), random.uniform(1, 3, count))
    within = np.where(random.random(count) < 0.3, random.uniform(0, 0.1, count), random.uniform(1, 3, count))
    return to_training.round(2).astype(np.float32), within.round(2).astype(np.float32)


def literal(to_training, within, nearest, repeating, uniform, order):
    """The same choice by loops over sorted lists: numbers, and the members of each group."""
    numbered = list(zip(to_training.tolist(), within.tolist(), range(len(within)), strict=True))
    first = [i for _, i in sorted((s, i) for s, _, i in numbered)][:nearest]
    second = [i for _, i in sorted((d - s, i) for s, d, i in numbered)][:repeating]
    groups, numbers = [first, second, list(order)[:uniform]], []
    for turn in range(max(map(len, groups))):
        for group in groups:
            if turn < len(group) and group[turn] not in numbers:
                numbers.append(group[turn])
    return numbers, groups


@pytest.mark.parametrize("counts", [COUNTS, {"nearest": 0, "repeating": 5, "uniform": 1}, dict.fromkeys(COUNTS, 500)])
def test_selection_equals_literal_loops(counts):
    to_training, within = distances()
    found = select(to_training, within, **counts, seed=7, size=16)
    numbers, groups = literal(to_training, within, **counts, order=rankings(to_training, within, 7, 16)[2])
    assert found.numbers.tolist() == numbers
    for flags, group in zip((found.nearest, found.repeating, found.uniform), groups, strict=True):
        assert set(found.numbers[flags]) == set(group)
    targeted = set(groups[0]) | set(groups[1])
    outside, drawn = len(within) - len(targeted), len(set(groups[2]) - targeted)
    assert found.weight.tolist() == [1 if i in targeted else outside / drawn for i in numbers]


def test_targeted_groups_find_copies_of_images_and_samples_that_repeat_each_other():
    # Copies of images of S in crowds (close to it and to each other), pairs far from S, and the rest.
    random = np.random.default_rng(1)
    to_training = np.concatenate([random.uniform(0.1, 0.3, 100), random.uniform(1.5, 3, 100)])
    within = np.concatenate([random.uniform(0.01, 0.2, 100), random.uniform(0, 0.2, 30), random.uniform(1.4, 3, 70)])
    found = select(to_training, within, 50, 30, 0, 1, 2)
    codes = classify(to_training, within, 0.5, 0.5)[found.numbers]
    assert (codes[found.nearest] == 0).all() and (codes[found.repeating] == 1).all()


def test_stopping_early_is_a_selection_of_smaller_groups():
    to_training, within = distances()
    whole = select(to_training, within, 60, 60, 60, 7, 16).numbers
    for turns in (1, 2, 17, 59):
        part = select(to_training, within, turns, turns, turns, 7, 16)
        assert part.numbers.tolist() == whole[: len(part.numbers)].tolist()
        assert part.nearest.any() and part.repeating.any() and part.uniform.any()
    cut = select(to_training, within, 5, 60, 20, 7, 16)  # one group ends before the others
    assert [i for i in whole if i in set(cut.numbers)] != [] and set(cut.numbers) <= set(whole)


def test_weighted_mean_over_many_draws_is_the_mean_of_the_population():
    to_training, within = distances()
    values = to_training + np.random.default_rng(2).normal(size=len(within))
    kind = classify(to_training, within, 0.1, 0.1)
    # Of the whole, and of the samples of each type, which know nothing of the groups.
    estimates = []
    for seed in range(2000):
        found = select(to_training, within, 30, 20, 40, seed, 16)
        assert found.weight.sum() == pytest.approx(len(within))
        parts = [np.ones(len(found.numbers), bool), *(kind[found.numbers] == code for code in range(3))]
        estimates.append([np.average(values[found.numbers[p]], weights=found.weight[p]) for p in parts])
    estimates = np.array(estimates)
    exact = [values.mean(), *(values[kind == code].mean() for code in range(3))]
    error = estimates.std(0) / np.sqrt(len(estimates))
    assert (np.abs(estimates.mean(0) - exact) < 3 * error + 0.01).all()
    assert (estimates.std(0) < 0.35).all()
    # Without the weights, the mean is that of the targeted samples above all.
    found = select(to_training, within, 30, 20, 40, 0, 16)
    assert abs(values[found.numbers].mean() - values.mean()) > 0.2


def test_every_weight_is_one_where_all_is_measured():
    to_training, within = distances(30)
    for counts in ((30, 0, 0), (0, 0, 30), (20, 20, 30), (99, 99, 99)):
        found = select(to_training, within, *counts, 7, 16)
        assert sorted(found.numbers) == list(range(30)) and (found.weight == 1).all()
    members = [np.array([0]), np.array([1]), np.array([0, 2])]  # all of three, though the draw is of two
    assert weights(members, interleave(members), 3).tolist() == [1, 1, 1]


def test_draws_differ_by_seed_and_size_and_repeat():
    to_training, within = distances()

    def draw(seed, size):
        return select(to_training, within, 0, 0, 20, seed, size).numbers.tolist()

    assert draw(1, 16) == draw(1, 16) != draw(2, 16) and draw(1, 16) != draw(1, 32)


@pytest.mark.parametrize("to_training, within, limit, message", [
    ([0.1, 0.2], [0.1], 1, "shapes"),
    ([], [], 1, "shapes"),
    ([0.1, np.nan], [0.1, 0.2], 1, "not finite"),
    ([0.1, -0.2], [0.1, 0.2], 1, "negative or not finite"),
    ([0.1, 0.2], [np.inf, np.inf], 1, "at least two samples"),
    ([0.1, 0.2], [0.1, 0.2], -1, "none may be negative"),
])
def test_bad_distances_are_refused(to_training, within, limit, message):
    with pytest.raises(ValueError, match=message):
        select(np.array(to_training), np.array(within), limit, 1, 1, 1, 2)
