"""The quality of samples of photographs, and their types by several distances."""

import numpy as np
import pandas as pd
import pytest
from builders import images, lpips_file, neighbours_file, refused, run

from attractors.arrays import array_hash, write_arrays
from attractors.figures.quality import main as figure
from attractors.results.quality import gaussian, kernel_distance, octave_power, quality, types_by
from attractors.stages.quality import main


@pytest.mark.parametrize(("periods", "octave"), [(3, 0), (6, 1), (12, 2), (1, None)])
def test_a_wave_is_in_its_octave_alone(periods, octave):
    wave = np.cos(2 * np.pi * periods * np.arange(32) / 32)
    power = octave_power(np.broadcast_to(wave, (2, 3, 32, 32)))
    assert power.shape == (2, 3)
    others = np.delete(power, octave, 1) if octave is not None else power
    assert np.allclose(others, 0, atol=1e-9) and (octave is None or (power[:, octave] > 1).all())


def test_kernel_distance_is_its_definition_and_near_zero_for_one_distribution():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((5, 4)), random.standard_normal((7, 4))
    scale = np.mean([v @ v for v in y])

    def mean(a, b, same):
        pairs = [(u, v) for i, u in enumerate(a) for j, v in enumerate(b) if not same or i != j]
        return np.mean([(1 + u @ v / scale) ** 3 for u, v in pairs])

    assert kernel_distance(x, y) == pytest.approx(mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False))
    large = random.standard_normal((3, 2000, 4))
    assert abs(kernel_distance(large[0], large[1])) < 0.02 < kernel_distance(large[0], large[2] + 0.5)


def test_a_gaussian_has_the_mean_and_the_covariance_of_s():
    s = images(6, (1, 2, 2)).numpy()
    draws = gaussian(s, 200_000, np.random.default_rng(1)).reshape(-1, 4)
    flat = s.reshape(6, 4)
    assert np.allclose(draws.mean(0), flat.mean(0), atol=0.01)
    assert np.allclose(np.cov(draws.T, bias=True), np.cov(flat.T, bias=True), atol=0.02)


def test_real_images_have_the_quality_of_real_images_and_averages_have_less():
    real, others = images(400, (3, 32, 32)).numpy(), images(800, (3, 32, 32), seed=1).numpy()
    mean = (others[::2] + others[1::2]) / 2
    same = quality(others, others.reshape(800, -1), real, real.reshape(400, -1))
    blurred = quality(mean, mean.reshape(400, -1), real, real.reshape(400, -1))
    assert all(same[f"power_{octave}"] == pytest.approx(1, abs=0.05) for octave in (1, 2, 3))
    assert all(blurred[f"power_{octave}"] == pytest.approx(0.5, abs=0.05) for octave in (1, 2, 3))
    assert same["sharpness"] == pytest.approx(1, abs=0.02)
    assert blurred["sharpness"] == pytest.approx(0.5**0.5, abs=0.02)


def test_types_by_a_distance_are_those_of_eqs_9_to_11():
    s = np.array([[0, 0], [4, 0], [0, 4]], np.float32)
    samples = np.array([[0.5, 0], [3, 3], [3.5, 3], [8, 8]], np.float32)
    auto, wide = types_by(samples, s, {"wide": (1.0, 0.1)}, squared=False)
    assert auto == {"thresholds": "auto", "delta_m": 1, "delta_s": 1, "memorized": 0.25, "spurious": 0.5,
                    "generalized": 0.25}
    assert (wide["memorized"], wide["spurious"], wide["generalized"]) == (0.25, 0, 0.75)
    (squared,) = types_by(samples, s, {}, squared=True)
    assert squared["delta_m"] == 4 and squared["memorized"] == 0.25


def test_the_stage_and_its_figure(tmp_path):
    random, sizes = np.random.default_rng(3), (4, 16)
    order = random.uniform(-1, 1, (60, 3, 32, 32)).astype(np.float32)
    write_arrays(tmp_path / "data/subsets/cifar10.safetensors", {"images": order}, shape=[3, 32, 32])
    for size in sizes:
        samples = np.concatenate([order[:size], random.uniform(-1, 1, (4, 3, 32, 32)).astype(np.float32)])
        write_arrays(tmp_path / f"data/synthetic/x/{size}.safetensors", {"images": samples})
        neighbours_file(tmp_path, size, 0, np.zeros(size + 4), np.ones(size + 4), distance="lpips_alex",
                        training_sha256=array_hash(order[:size]))
    (tmp_path / "x.yaml").write_text("dataset: cifar10\nsizes: [4, 16]\nquality: {images: 20}\n")
    for backbone in ("alex", "vgg"):
        lpips_file(tmp_path / f"{backbone}.safetensors", backbone)
    options = ["--sweep", tmp_path / "x.yaml", "--data", tmp_path / "data", "--metrics", tmp_path / "metrics"]
    run(main, *options, "--lpips", tmp_path)
    table = pd.read_csv(tmp_path / "metrics/quality/x.csv")
    assert set(zip(table.K, table.group, table.n, strict=True)) >= {
        (4, "copies", 4), (16, "copies", 16), (4, "others", 4), (4, "gaussian", 20), (16, "held_out", 20)}
    copies, training = (table[table.group == group] for group in ("copies", "training"))
    assert np.allclose(copies.sharpness, training.sharpness)
    shares = pd.read_csv(tmp_path / "metrics/distances/x.csv")
    auto = shares[shares.thresholds == "auto"]
    assert np.allclose(auto.memorized, auto.K / (auto.K + 4)) and len(auto) == 6
    assert set(shares[shares.distance == "lpips_alex"].thresholds) == {"auto", "least", "greatest"}
    run(figure, "x", "--metrics", tmp_path / "metrics", "--out", tmp_path / "x.png")
    assert "44 images beyond K = 16; quality needs twice --images" in refused(
        main, *options, "--lpips", tmp_path, "--images", "23")
