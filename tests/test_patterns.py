"""The stages basin, curvature and energy on the exact denoiser of a few memories, whose answers are known."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from attractors.arrays import read_arrays, write_arrays
from attractors.denoisers.models import new_model, write_model
from attractors.landscape.basin import search_times
from attractors.landscape.patterns import TRAINING, moments, read_inputs
from attractors.stages import basin, curvature, energy
from attractors.tables import write_json

SHAPE, K, N = (1, 3, 4), 6, 12
SIGMA_0, SIGMA_2 = 0.01, math.sqrt(1 - (1 - 1e-4) * (1 - 1e-4 - 0.0199 / 999) * (1 - 1e-4 - 2 * 0.0199 / 999))


@pytest.fixture
def files(tmp_path):
    """An exact model of K memories, a synthetic set of near copies of them and far images, and a selection."""
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (9, *SHAPE)).astype(np.float32)
    near = np.clip(images[:K] + 0.01 * random.standard_normal((K, *SHAPE)), -1, 1).astype(np.float32)
    far = random.uniform(-1, 1, (4, *SHAPE)).astype(np.float32)
    paths = {name: str(tmp_path / f"{name}.safetensors") for name in ("subset", "synthetic", "model")}
    paths["selection"] = str(tmp_path / "selection.json")
    write_arrays(paths["subset"], {"images": images})
    write_arrays(paths["synthetic"], {"images": np.concatenate([far, near])})
    write_json(paths["selection"], {
        "memorized": list(range(4, 10)), "spurious": [], "generalized": [2, 0, 3], "left_out": ["spurious"],
    })  # fmt: skip
    network, record = {"name": "exact"}, {"image_shape": list(SHAPE), "size": K, "seed": 1}
    model = new_model(network, {}, SHAPE, 1, torch.from_numpy(images[:K]))
    write_model(paths["model"], model.state_dict(), network=network, diffusion={}, **record)
    return paths


def run(command, files, folder, *options):
    """Run a stage on files; returns its table, its arrays and what it printed."""
    folder.mkdir(exist_ok=True)
    arguments = [part for name, path in files.items() for part in (f"--{name}", path)]
    arguments += ["--metrics", str(folder / "m.csv"), "--out", str(folder / "o.safetensors"), "--device", "cpu"]
    result = CliRunner().invoke(command.main, [*arguments, *options])
    assert result.exit_code == 0, result.output
    return pd.read_csv(folder / "m.csv"), read_arrays(folder / "o.safetensors")[0], result.output


BASIN = ("--distance", "l2", "--delta-d", "0.2", "--trials", "6", "--stride", "90", "--steps", "4")


def test_basin_of_memories_is_wide_and_of_far_images_none(files, tmp_path):
    table, arrays, printed = run(basin, files, tmp_path / "a", *BASIN)
    assert table.type.tolist() == ["memorized", "generalized", "training"] and table.n.tolist() == [6, 3, 6]
    memorized, generalized, training = table.itertuples()
    # Memories lie about 2.8 apart: sigma far beyond a half of that over sqrt(N) still brings each back.
    assert memorized.t_c > 200 and training.t_c > 200 and memorized.unrecovered == training.unrecovered == 0
    # Any noise takes a far image to a memory: no trial of it is recovered, and it has no log-volume.
    assert generalized.t_c == 0 and generalized.unrecovered == 1 and math.isnan(generalized.log_volume)
    assert generalized.evaluations == 3 * 6 * 4 and generalized.evaluations_full == 3 * 6 * 4 * len(
        search_times(1000, 90)
    )
    floor = N / 2 * math.log(math.pi) - math.lgamma(N / 2 + 1) + N * math.log(0.2)
    assert table.log_volume_floor.tolist() == pytest.approx([floor] * 3, rel=1e-5)
    radius = arrays["memorized_radius"]
    assert arrays["memorized_log_volume"] == pytest.approx(
        (N / 2 * math.log(math.pi) - math.lgamma(N / 2 + 1) + N * np.log(radius)).mean(1)
    )
    assert memorized.log_volume == pytest.approx(arrays["memorized_log_volume"].mean(), rel=1e-5)
    assert "left out, too few or none: spurious" in printed


def test_basins_do_not_depend_on_what_else_is_selected(files, tmp_path):
    _, arrays, _ = run(basin, files, tmp_path / "a", *BASIN)
    write_json(files["selection"], {"memorized": [9, 5], "spurious": [7], "generalized": [], "left_out": []})
    _, others, _ = run(basin, files, tmp_path / "b", *BASIN, "--batch", "12")
    assert (others["memorized_t_c"] == arrays["memorized_t_c"][[5, 1]]).all()
    assert (others["spurious_t_c"] == arrays["memorized_t_c"][[3]]).all()
    assert (others["training_radius"] == arrays["training_radius"]).all()


def test_curvature_of_memories_is_that_of_a_single_memory_at_small_t(files, tmp_path):
    options = ("--method", "central", "--method", "jacobian", "--spectra", str(tmp_path / "s.csv"), "--training", "4")
    table, arrays, _ = run(curvature, files, tmp_path / "a", *options)
    assert table.type.tolist() == [name for name in ("memorized", "generalized", "training") for _ in range(2)]
    assert table.n.tolist() == [6, 6, 3, 3, 4, 4]
    np.testing.assert_allclose(arrays["memorized_jacobian"], SIGMA_2**-2, rtol=1e-3)
    np.testing.assert_allclose(table.degrees_of_freedom[1], 0, atol=1e-2)
    assert table.dimension.tolist() == [0] * 6 and table.sigma.tolist() == pytest.approx([SIGMA_2] * 6, rel=1e-5)
    # Alg. 2: noise over sigma, so N columns' worth of chi-squared: the mean square is 4N / sigma^2.
    assert (arrays["memorized_central"] ** 2).mean() == pytest.approx(4 * N / SIGMA_2**2, rel=0.05)
    spectra = pd.read_csv(tmp_path / "s.csv")
    part = spectra[(spectra.type == "training") & (spectra.method == "central")]
    assert part["rank"].tolist() == list(range(1, N + 1))
    np.testing.assert_allclose(part["mean"], arrays["training_central"].mean(0), rtol=1e-5)
    np.testing.assert_allclose(part["std"], arrays["training_central"].std(0, ddof=1), rtol=1e-5)


def test_energy_of_copies_is_that_of_training_images_and_of_far_images_half_their_squared_distance(files, tmp_path):
    table, arrays, _ = run(energy, files, tmp_path / "a", "--references", "2", "--nodes", "1000")
    assert table[["type", "reference", "n"]].values.tolist() == [
        [name, reference, n]
        for name, n in (("memorized", 6), ("generalized", 3), ("training", 6))
        for reference in (1, 2)
    ]
    memories = read_arrays(files["subset"])[0]["images"][:K].reshape(K, -1).astype(float)
    far = read_arrays(files["synthetic"])[0]["images"][[2, 0, 3]].reshape(3, -1)
    squared = ((far[:, None] - memories) ** 2).sum(2).min(1)
    for reference in range(2):
        # u = |x - nearest|^2 / 2 - beta_0 |x|^2 / 4 with beta_0 = 1e-4, up to the error of 1,000 nodes.
        gaps = arrays["generalized_energy"][:, reference] - arrays["training_energy"][:, reference].mean()
        np.testing.assert_allclose(gaps, squared / 2, rtol=0.01, atol=0.02)
        assert abs(table.gap[table.type == "memorized"].iloc[reference]) < 0.01
    assert (table.gap[table.type == "training"] == 0).all()
    assert table.gap.iloc[2] == pytest.approx((squared / 2).mean(), abs=0.02)


def test_streams_of_samples_and_training_images_never_meet(files):
    _, patterns, size = read_inputs(**files, limit=5, training=2, device="cpu")
    assert size == K and {name: list(numbers) for name, (_, numbers) in patterns.items()} == {
        "memorized": [4, 5, 6, 7, 8], "generalized": [2, 0, 3], "training": [TRAINING, TRAINING + 1],
    }  # fmt: skip


@pytest.mark.parametrize(
    "selection, message",
    [
        ({"memorized": [10], "spurious": [], "generalized": []}, "sample 10 of 10 in .*synthetic"),
        ({"memorized": [-1], "spurious": [], "generalized": []}, "sample -1 of 10"),
        ({"memorized": [0], "generalized": []}, "no list of spurious samples; classify.py writes such a selection"),
        ({"memorized": {"total": 3}, "spurious": [], "generalized": []}, "no list of memorized samples"),
    ],
)
def test_selection_that_does_not_fit_is_refused_in_one_line(files, selection, message):
    write_json(files["selection"], selection)
    with pytest.raises(ValueError, match=message):
        read_inputs(**files, limit=5, training=2, device="cpu")


def test_mistakes_are_one_line_that_names_the_option(files, tmp_path):
    arguments = [part for name, path in files.items() for part in (f"--{name}", path)]
    arguments += ["--metrics", str(tmp_path / "m.csv"), "--out", str(tmp_path / "o")]
    for command, options, message in (
        (basin, [*BASIN, "--stride", "1000"], "stride is 1000; it must be below 999"),
        (curvature, ["--t0", "1000", "--spectra", str(tmp_path / "s.csv")], "--t0 is 1000; .* has times 0 to 999"),
        (energy, ["--references", "10"], "--references is 10; .* holds 9 images"),
    ):
        result = CliRunner().invoke(command.main, [*arguments, *options])
        assert result.exit_code == 1 and not (tmp_path / "m.csv").exists()
        assert len(result.output.strip().splitlines()) == 1
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(result.output)


def test_moments_of_a_table_by_hand():
    found = moments([[1.0, 3.0], [5.0, np.nan], [np.nan, np.nan]], "x")
    assert found == {"x": 3.5, "x_std": pytest.approx(2.0), "x_se": pytest.approx(math.sqrt(4.5) / math.sqrt(2))}
    assert moments([2.0], "x") == {"x": 2.0, "x_std": None, "x_se": None}
    assert moments([[np.nan]], "x") == {"x": None, "x_std": None, "x_se": None}
