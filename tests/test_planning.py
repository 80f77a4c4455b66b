"""Plans of sweeps for images of one's own, against planted transitions."""

import math

import numpy as np
import pytest
from builders import refused

from attractors import planning
from attractors.commands import study
from attractors.commands.scale import read_sweep, runs_of
from attractors.data.subsets import sizes
from attractors.distances.neighbours import nearest


def uniform(count, shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *shape)).astype(np.float32)


def planned(shape=(1, 28, 28), count=300, seconds=7200.0, step=0.03):
    plan = planning.settings(uniform(count, shape), 3407)
    planning.within(plan, seconds, step, 1e-3)
    return plan


@pytest.mark.parametrize(("shape", "network", "patch", "distance"), [
    ((1, 8, 8), "mlp", None, "l2"), ((1, 16, 16), "unet", 2, "l2"), ((1, 28, 28), "unet", 4, "l2"),
    ((3, 32, 32), "unet", 4, "lpips_alex"), ((3, 16, 16), "unet", 2, "l2"), ((1, 15, 9), "unet", 1, "l2"),
])
def test_network_and_distance_follow_from_the_shape(shape, network, patch, distance):
    sections = planning.settings(uniform(64, shape), 1).sections
    assert (sections["network"]["name"], sections["network"].get("patch")) == (network, patch)
    assert sections["neighbours"]["distance"] == distance


def test_noise_moves_with_the_spacing_as_on_mnist_and_cifar_10():
    for spacing, published in ((14.5, 0.6), (23.6, 1.2)):
        images = uniform(64, (1, 28, 28))
        flat = images.reshape(64, -1)
        images *= spacing / np.median(nearest(flat, flat, 1, True)[0])
        plan = planning.settings(images, 1)
        assert plan.spacing == pytest.approx(spacing, rel=1e-4)
        assert plan.sections["train"]["noise_mean"] == pytest.approx(published, abs=0.11)


def test_large_pictures_are_averaged_to_32_pixels_and_cut_to_multiples_of_4():
    images = uniform(2, (3, 128, 192))
    small = planning.reduced(images)
    assert small.shape == (2, 3, 32, 48)
    assert np.allclose(small[0, 0, 3, 5], images[0, 0, 12:16, 20:24].mean(), atol=1e-6)
    assert planning.reduced(uniform(2, (1, 30, 21))).shape == (2, 1, 28, 20)
    kept = uniform(2, (1, 8, 8))
    assert planning.reduced(kept) is kept


def test_a_plan_takes_the_time_that_is_given():
    plan = planned(seconds=7200, step=0.03)
    models = len(planning.GRID) + 2 * len(planning.REPEATED) + 1
    steps = plan.sections["train"]["iterations"]
    assert 0.95 < steps * 0.03 * models / (planning.SHARE * 7200) <= 1 and plan.repeated
    assert planned(seconds=700).repeated == []
    assert planned(seconds=10**7).sections["train"]["iterations"] == planning.MOST
    with pytest.raises(ValueError, match="1 minutes of a core are 100 steps a model; 400 are the least"):
        planned(seconds=60)


@pytest.mark.parametrize("half", [3, 12, 40, 100])
def test_a_pilot_finds_a_planted_half_and_the_grid_contains_it(half):
    plan, seen = planned(), []

    def copied(size, steps):
        seen.append((size, steps))
        return 1 / (1 + (size / half) ** 4)

    *_, (_, _, expected) = planning.pilot(plan, copied)
    assert expected / planning.PILOT == pytest.approx(half, rel=0.1) and len(seen) <= 6
    assert {steps for _, steps in seen} == {plan.sections["train"]["iterations"] // planning.PILOT}
    planning.place(plan, expected)
    inside = min(expected, plan.count)
    assert plan.sizes[0] < inside <= plan.sizes[-1] and plan.sizes[-1] <= plan.count
    assert f"about K = {expected:.0f} " in planning.answer(plan, expected) or expected > plan.count


def test_a_pilot_says_where_images_or_steps_do_not_suffice():
    plan = planned()
    *_, (size, _, half) = planning.pilot(plan, lambda *_: 1.0)
    assert half == math.inf and size == plan.count and "all 300 images are still copied" in planning.answer(plan, half)
    *_, (size, _, half) = planning.pilot(plan, lambda *_: 0.0)
    assert half == 0 and size == 2 and "not even two images are copied" in planning.answer(plan, half)


def test_what_is_written_is_a_sweep_with_both_controls(tmp_path):
    plan = planned((3, 32, 32))
    planning.place(plan, 40)
    images = uniform(300, (3, 32, 32))
    paths = study.written(tmp_path, "mine", plan, images, "why")
    for path in paths:
        content, settings = read_sweep(path)
        assert content["dataset"] == "mine" and settings["basin"]["delta_d"] == 0.03
    content, settings = read_sweep(paths[0])
    assert 2 * content["quality"]["images"] + plan.sizes[-1] <= 300
    assert sizes(content["sizes"]) == plan.sizes and settings["classify"]["replicates"].count(3) == 3
    runs = runs_of(["mine", "mine-exact", "mine-linear"], tmp_path / "sweeps")
    assert len(runs["runs"]) == len(plan.sizes) + 6 + 6 and runs["photographs"].keys() == {"mine"}
    back = np.load(tmp_path / "data/raw/mine/images.npz")["images"]
    assert np.abs(back / 127.5 - 1 - images).max() < 1 / 127


def test_mistakes_are_one_line(tmp_path):
    np.savez(tmp_path / "few.npz", images=np.zeros((20, 8, 8), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None])
    assert "20 images; a transition needs at least 64" in refused(study.main, tmp_path / "few.npz", "--name", "new")
    assert "sweeps/digits.yaml exists" in refused(study.main, tmp_path / "few.npz", "--name", "digits", code=2)
    same = np.zeros((70, 1, 8, 8), np.float32)
    same[0] = 1
    with pytest.raises(ValueError, match="most of 64 images are exact copies"):
        planning.settings(same, 1)
