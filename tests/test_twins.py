"""Copies within the training set: each definition of memorization counts one original for several."""

import numpy as np
import pytest
import torch
from builders import refused, run

import attractors
from attractors.arrays import read_arrays
from attractors.distances.twins import one_each, originals
from attractors.stages import classify, neighbours, yardsticks

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)


def near(images):
    return np.clip(images + RANDOM.integers(-3, 4, images.shape), 0, 255).astype(np.uint8)


SAMPLES = np.concatenate([near(IMAGES[:40]), RANDOM.integers(0, 256, (80, 8, 8, 3)).astype(np.uint8)])
SETS = {"no twins": IMAGES, "1 exact": [*IMAGES, IMAGES[3]], "1 near": [*IMAGES, near(IMAGES[3])],
        "10 exact": [*IMAGES, *IMAGES[:10]], "29 exact": [*IMAGES, *IMAGES[:29]],
        "29 near": [*IMAGES, *near(IMAGES[:29])],
        "all doubled": [*IMAGES, *IMAGES], "all thrice, nearly": [*IMAGES, *near(IMAGES), *near(IMAGES)],
        "one 30 times": [*IMAGES, *[IMAGES[0]] * 29]}


@pytest.mark.parametrize("name", SETS)
def test_a_third_is_memorized_by_every_definition_however_many_twins_there_are(tmp_path, name):
    paths = {"--training": SETS[name], "--synthetic": SAMPLES}
    sets = [part for option, images in paths.items() for part in (option, tmp_path / f"{option[2:]}.npz")]
    for option, images in paths.items():
        np.savez(tmp_path / f"{option[2:]}.npz", np.stack(images))
    said = run(neighbours, *sets, "--out", tmp_path / "n")
    repeated = len(SETS[name]) - 60
    assert (f"{repeated} of {60 + repeated} training images repeat another one" in said) == (repeated > 0)
    for limits in (["--delta-m", 2, "--delta-s", 2], ["--delta-m", "ratio", "--delta-s", 2], []):
        said = run(classify, tmp_path / "n", "--name", "x", "--out", tmp_path / "o", *limits)
        table = np.genfromtxt(tmp_path / "o/fractions/x.csv", delimiter=",", names=True)
        assert table["memorized"] == pytest.approx(1 / 3), (limits, said)
    said = run(yardsticks, *sets, "--out", tmp_path / "y")
    assert "0.333 memorized by the ratio" in said and "0.333 copies by the adaptive distance" in said


def test_one_image_of_each_group_is_kept_against_a_loop():
    distances = np.sort(RANDOM.random((50, 12)), 1)
    indices = np.stack([RANDOM.permutation(20)[:12] for _ in range(50)])
    first = np.repeat(np.arange(0, 20, 2), 2)
    for row, table in enumerate(one_each(distances, indices, first, 6)):
        kept = {}
        for distance, index in zip(distances[row], indices[row], strict=True):
            kept.setdefault(first[index], distance)
        expected = sorted(kept.values())[:6]
        np.testing.assert_array_equal(table, expected + [np.inf] * (6 - len(expected)))


def test_two_images_alone_are_no_twins_unless_they_are_equal():
    for distance, expected in ((0.1, [0, 1]), (0.0, [0, 0])):
        table = np.array([[distance, np.inf]] * 2)
        np.testing.assert_array_equal(originals(table, np.array([[1, -1], [0, -1]])), expected)


def test_a_set_of_one_image_and_its_copies_has_no_spacing_and_given_thresholds_are_used(tmp_path):
    for images in (IMAGES[:1], IMAGES[[0, 0, 0]]):
        np.savez(tmp_path / "t.npz", images)
        np.savez(tmp_path / "s.npz", SAMPLES)
        sets = ["--training", tmp_path / "t.npz", "--synthetic", tmp_path / "s.npz"]
        run(neighbours, *sets, "--out", tmp_path / "n")
        out = [tmp_path / "n", "--name", "x", "--out", tmp_path / "o"]
        assert "0.008" in run(classify, *out, "--delta-m", 2, "--delta-s", 2)
        assert "have no spacing" in refused(classify, *out)
        assert "two different images" in refused(classify, *out, "--delta-m", "ratio", "--delta-s", 2)
        assert not np.isfinite(read_arrays(tmp_path / "n")[0]["training_spacing"]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_by_their_row(value):
    x, y = (RANDOM.random((n, 5)).astype(np.float32) for n in (30, 40))
    for which, table in (("reference 7", y), ("query 7", x)):
        table[7, 2] = value
        with pytest.raises(ValueError, match=f"{which} holds NaN or infinity"):
            attractors.nearest(x, y)
        table[7, 2] = 0
    with pytest.raises(ValueError, match="sample 1 is NaN"):
        attractors.classify(np.array([1, np.nan]), np.ones(2), 1, 1)


def test_the_caller_s_defaults_of_torch_change_nothing():
    x, y = (RANDOM.random((n, 64)).astype(np.float32) for n in (70, 90))
    expected = attractors.nearest(x, y, 3)
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        found = attractors.nearest(x, y, 3)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert found[0].dtype == torch.float32
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
