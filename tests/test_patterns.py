"""The stages basin, curvature and energy on the exact denoiser of a few memories, whose answers are known."""

import math
import os
import re
import signal
import threading

import builders
import numpy as np
import pytest
import torch

from attractors.arrays import read_arrays, write_arrays
from attractors.data.images import ImageFile, read_images
from attractors.denoisers import checkpoints
from attractors.landscape.patterns import TRAINING, read_patterns
from attractors.landscape.selection import select
from attractors.settings.patterns import Patterns
from attractors.stages import basin, curvature, energy

SHAPE, K, N = (1, 3, 4), 6, 12
SIGMA_0, SIGMA_2 = 0.01, math.sqrt(1 - (1 - 1e-4) * (1 - 1e-4 - 0.0199 / 999) * (1 - 1e-4 - 2 * 0.0199 / 999))
COUNTS = {"nearest": 6, "repeating": 2, "uniform": 3}
GROUPS = [part for name, count in COUNTS.items() for part in (f"--{name}", str(count))]


def distances(a, b, itself=False):
    """The distance of each of a to its nearest other in b: [n, 1]."""
    found = np.linalg.norm(a.reshape(len(a), 1, -1) - b.reshape(1, len(b), -1), axis=2)
    return np.sort(found, 1)[:, int(itself) : int(itself) + 1].astype(np.float32)


@pytest.fixture
def files(tmp_path):
    """An exact model of K memories, a synthetic set of far images and of near copies of memories, and its distances."""
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (9, *SHAPE)).astype(np.float32)
    near = np.clip(images[:K] + 0.01 * random.standard_normal((K, *SHAPE)), -1, 1).astype(np.float32)
    far = random.uniform(-1, 1, (6, *SHAPE)).astype(np.float32)
    far[3] = far[1] + 0.001  # these two repeat each other
    synthetic = np.concatenate([far, near])
    paths = {name: str(tmp_path / f"{name}.safetensors") for name in ("subset", "synthetic", "model", "neighbours")}
    write_arrays(paths["subset"], {"images": images})
    write_arrays(paths["synthetic"], {"images": synthetic})
    write_neighbours(paths["neighbours"], distances(synthetic, images[:K]), distances(synthetic, synthetic, True))
    builders.model_file(paths["model"], {"name": "exact"}, SHAPE, K, seed=1, images=torch.from_numpy(images[:K]))
    return paths


def write_neighbours(path, to_training, within, size=K):
    write_arrays(path, {"training_distances": to_training, "synthetic_distances": within}, size=size, distance="l2")


def inputs(files):
    return [part for name, path in files.items() for part in (f"--{name}", path)]


def run(command, files, out, *options):
    """Run a stage on files; returns its arrays, its record and what it printed."""
    printed = builders.run(command, *inputs(files), *GROUPS, "--out", out, "--device", "cpu", *options)
    return *read_arrays(out), printed


BASIN = ("--distance", "l2", "--delta-d", "0.2", "--trials", "6", "--stride", "90", "--steps", "4")


def test_every_file_names_its_samples_their_groups_and_weights(files, tmp_path):
    found, _ = read_arrays(files["neighbours"])
    to_training, within = found["training_distances"][:, 0], found["synthetic_distances"][:, 0]
    expected = select(to_training, within, **COUNTS, seed=5, size=K)
    assert set(expected.numbers[expected.nearest]) == set(range(6, 12))
    assert set(expected.numbers[expected.repeating]) == {1, 3}
    for command, options in ((basin, BASIN), (curvature, ()), (energy, ())):
        arrays, record, printed = run(command, files, tmp_path / "o", *options, "--seed", "5", "--training-limit", "4")
        for name, values in expected._asdict().items():
            np.testing.assert_array_equal(arrays[name], values)
        assert arrays["training_numbers"].tolist() == [0, 1, 2, 3]
        assert (record["size"], record["seed"], record["image_shape"]) == (K, 5, list(SHAPE))
        assert record["measured"]["repeating"] == {"n": 2, "limit": 2, "reached": None}
        assert "6 nearest, 2 repeating, 3 uniform, 4 training" in printed
        real = {name for name, values in arrays.items() if values.dtype == np.float64}
        assert real == {"weight"}, "results are written as float32"


def test_basin_of_memories_is_wide_and_of_far_images_none(files, tmp_path):
    arrays, record, _ = run(basin, files, tmp_path / "o", *BASIN)
    near = arrays["numbers"] >= 6
    # Memories lie about 2.8 apart: sigma far beyond a half of that over sqrt(N) still brings each back.
    assert arrays["t_c"][near].mean() > 200 and arrays["training_t_c"].mean() > 200
    assert (arrays["t_c"][near] > 0).all() and (arrays["training_t_c"] > 0).all()
    # Any noise takes a far image to a memory: no trial of it is recovered, and it has no log-volume.
    assert (~near).sum() >= 2 and (arrays["t_c"][~near] == 0).all() and (arrays["searched"][~near] == 1).all()
    assert np.isnan(arrays["log_volume"][~near]).all()
    assert arrays["log_volume"][near] == pytest.approx(
        (N / 2 * math.log(math.pi) - math.lgamma(N / 2 + 1) + N * np.log(arrays["radius"][near])).mean(1)
    )
    assert (record["distance"], record["delta_d"], record["trials"], record["times"]) == ("l2", 0.2, 6, 11)


def test_basins_do_not_depend_on_what_else_is_measured(files, tmp_path):
    arrays, _, _ = run(basin, files, tmp_path / "a", *BASIN)
    others, _, _ = run(basin, files, tmp_path / "b", *BASIN, "--uniform", "0", "--nearest", "3", "--batch", "12")
    assert len(others["numbers"]) == 5
    order = arrays["numbers"].tolist()
    assert (others["t_c"] == arrays["t_c"][[order.index(i) for i in others["numbers"]]]).all()
    assert (others["training_radius"] == arrays["training_radius"]).all()


def test_curvature_of_memories_is_that_of_a_single_memory_at_small_t(files, tmp_path):
    options = ("--method", "central", "--method", "jacobian", "--training-limit", "4")
    arrays, record, _ = run(curvature, files, tmp_path / "a", *options)
    near = arrays["numbers"] >= 6
    np.testing.assert_allclose(arrays["jacobian"][near], SIGMA_2**-2, rtol=1e-3)
    np.testing.assert_allclose(arrays["jacobian_trace"][near], -N / SIGMA_2**2, rtol=1e-3)
    assert record["sigma"] == pytest.approx(SIGMA_2, rel=1e-5) and record["methods"] == ["central", "jacobian"]
    # Alg. 2: noise over sigma, so N columns' worth of chi-squared: the mean square is 4N / sigma^2.
    assert (arrays["central"] ** 2).mean() == pytest.approx(4 * N / SIGMA_2**2, rel=0.05)
    assert arrays["training_central"].shape == arrays["training_jacobian"].shape == (4, N)


def test_energy_of_copies_is_that_of_training_images_and_of_far_images_half_their_squared_distance(files, tmp_path):
    arrays, record, _ = run(energy, files, tmp_path / "a", "--references", "2", "--nodes", "1000")
    far = arrays["numbers"] < 6
    assert len(arrays["references"]) == 2 and record["nodes"] == 1000
    memories = read_arrays(files["subset"])[0]["images"][:K].reshape(K, -1).astype(float)
    images = read_arrays(files["synthetic"])[0]["images"][arrays["numbers"][far]].reshape(far.sum(), -1)
    squared = ((images[:, None] - memories) ** 2).sum(2).min(1)
    for reference in range(2):
        # u = |x - nearest|^2 / 2 - beta_0 |x|^2 / 4 with beta_0 = 1e-4, up to the error of 1,000 nodes.
        zero = arrays["training_energy"][:, reference].mean()
        np.testing.assert_allclose(arrays["energy"][far, reference] - zero, squared / 2, rtol=0.01, atol=0.02)
        assert abs(arrays["energy"][~far, reference].mean() - zero) < 0.01


def test_a_group_ends_at_its_precision_in_the_same_order(files, tmp_path, monkeypatch):
    # Of the nearest samples, which are memories, the log-volume is soon known; of far ones it never is.
    monkeypatch.setattr("attractors.landscape.measuring.BLOCK", 2)
    whole, _, _ = run(basin, files, tmp_path / "a", *BASIN)
    arrays, record, printed = run(basin, files, tmp_path / "b", *BASIN, "--standard-error", "0.2")
    ended = record["measured"]["nearest"]
    assert ended["n"] in (2, 4) and 0 < ended["reached"] <= 0.2
    assert f"{ended['n']} nearest ({ended['reached']:.1%})" in printed
    found, _ = read_arrays(files["neighbours"])
    to_training, within = found["training_distances"][:, 0], found["synthetic_distances"][:, 0]
    expected = select(to_training, within, **(COUNTS | {"nearest": ended["n"]}), seed=3407, size=K)
    for name, values in expected._asdict().items():
        np.testing.assert_array_equal(arrays[name], values)
    order = whole["numbers"].tolist()
    assert (arrays["t_c"] == whole["t_c"][[order.index(i) for i in arrays["numbers"]]]).all()


def killed(command, arguments, delay):
    """Run a stage in a process that kills itself `delay` seconds after it first saves its state; whether it was."""
    process = os.fork()
    if process == 0:
        save = checkpoints.Checkpoint.save

        def save_and_die(self, state):
            save(self, state)
            if delay == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

        checkpoints.Checkpoint.save = save_and_die
        try:
            command.main(arguments, standalone_mode=False)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


@pytest.mark.parametrize(
    "command, options",
    [
        (basin, BASIN),
        (curvature, ("--batch", "12", "--method", "central", "--method", "jacobian")),
        (energy, ("--nodes", "200")),
    ],
    ids=["basin", "curvature", "energy"],
)
def test_a_stage_killed_three_times_ends_with_the_same_bytes(files, tmp_path, monkeypatch, command, options):
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(basin, "CHUNK", 2)
    monkeypatch.setattr(energy, "CHUNK", 2)
    run(command, files, tmp_path / "whole", *options)
    arguments = [*inputs(files), *GROUPS, "--out", str(tmp_path / "killed"), "--device", "cpu", *options]
    random = np.random.default_rng()  # no result depends on when
    deaths = [killed(command, arguments, delay) for delay in (0, *random.uniform(0, 0.02, 2))]
    left = len(list((tmp_path / ".resume").glob("[!.]*.pt")))  # none where the third was done before it was killed
    assert deaths[0] and left == deaths[2]
    resumed, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: resumed.append(load(*a, **k)) or resumed[-1])
    run(command, files, tmp_path / "killed", *options)
    assert len(resumed) == left and all(state["count"] >= 1 for state in resumed)  # it went on from there
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert list((tmp_path / ".resume").iterdir()) == []


def read(files, **other):
    settings = Patterns(nearest=3, repeating=0, uniform=1, training_limit=2)
    return read_patterns(**files, **({"settings": settings, "seed": 1, "device": "cpu"} | other))


def test_streams_of_samples_and_training_images_never_meet(files):
    patterns = read(files)
    assert patterns.size == K and patterns.members["training"].tolist() == [TRAINING, TRAINING + 1]
    assert set(patterns.members["nearest"]) <= set(range(6, 12))
    some = np.array([TRAINING + 1, patterns.members["nearest"][2]])
    images = np.stack([read_images(files["subset"])[1], read_images(files["synthetic"])[some[1]]])
    assert (patterns.tensor(some).numpy() == images).all()


def test_rows_of_a_file_are_those_of_the_whole(tmp_path):
    images = np.random.default_rng(0).integers(0, 17, (9, 4, 5, 3)).astype(np.uint8)
    write_arrays(tmp_path / "rows", {"images": images}, maximum=16)
    np.save(tmp_path / "whole.npy", images)
    for path in (tmp_path / "rows", tmp_path / "whole.npy"):
        file = ImageFile(path)
        assert len(file) == 9
        np.testing.assert_array_equal(file.read(np.array([7, 0, 3])), read_images(path)[[7, 0, 3]])


def test_mistakes_are_one_line_that_names_the_option(files, tmp_path):
    for command, options, message in ((basin, [*BASIN, "--stride", "1000"], "stride is 1000; it must be below 999"),
                                      (curvature, ["--t0", "1000"], "--t0 is 1000; .* has times 0 to 999"),
                                      (energy, ["--references", "10"], "--references is 10; .* holds 9 images")):
        assert re.search(message, builders.refused(command, *inputs(files), "--out", tmp_path / "o", *options))
        assert not (tmp_path / "o").exists()
