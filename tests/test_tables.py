"""Tables 1-3 against a copy typed from the paper in its own layout, and the sweep files against the tables."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from attractors.commands.scale import SCALES, read_sweep
from attractors.data.subsets import size_grid
from attractors.denoisers.diffusion import linear_betas
from attractors.denoisers.models import new_model
from attractors.results.paper import TABLE_1, TABLE_2, TABLE_3

SWEEPS = Path(__file__).parents[1] / "sweeps"
SHAPES = {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32), "lsun_church": (3, 64, 64)}

PRINTED_1 = """
MNIST 4000 32000 60000
CIFAR10 2000 16000 50000
LSUN-CHURCH 2000 16000 126227
FASHION-MNIST 4000 16000 60000
"""
B_5 = {"cifar10-64": (500, 8000), "cifar10-96": (2000, 16000), "lsun_church-64": (1000, 8000)}
PRINTED_2 = """
MNIST 128 [2, 4.5] [2, 4]
FASHION-MNIST 128 [2, 2.5] [2.5, 3]
CIFAR10 64 [0.01, 0.04] [0.015, 0.025]
CIFAR10 96 [0.015, 0.04] [0.015, 0.025]
CIFAR10 128 [0.015, 0.035] [0.015, 0.025]
LSUN-CHURCH 64 [0.06, 0.15] [0.01, 0.1]
LSUN-CHURCH 96 [0.1, 0.125] [0.05, 0.06]
LSUN-CHURCH 128 [0.1, 0.12] [0.04, 0.06]
"""
PRINTED_3 = """
MNIST 128 (1, 2, 2) 24.5M 128 400,000
FASHION-MNIST 128 (1, 2, 2) 24.5M 128 400,000
CIFAR10 64 (1, 2, 2, 2) 8.9M 128 500,000
CIFAR10 96 (1, 2, 2, 2) 20.1M 128 500,000
CIFAR10 128 (1, 2, 2, 2) 35.7M 128 500,000
LSUN-CHURCH 64 (1, 1, 2, 2, 4, 4) 27.4M 64 800,000
LSUN-CHURCH 96 (1, 1, 2, 2, 4, 4) 61.7M 64 800,000
LSUN-CHURCH 128 (1, 1, 2, 2, 4, 4) 109.7M 64 800,000
"""
# Sizes named in the paper's text and captions.
PUBLISHED = {
    "mnist-128": [4000, 11724, 21379, 60000],
    "fashion_mnist-128": [4000, 7724, 8965, 60000],
    "cifar10-64": [2568],
    "cifar10-128": [5862, 7310],
    "lsun_church-64": [4862],
    "lsun_church-128": [4896],
}


def name(dataset, width):
    return f"{dataset.lower().replace('-', '_')}-{width}"


def lines(text):
    return [line.split(" ", 2) for line in text.strip().splitlines()]


def test_table_1_is_the_printed_one_and_b_5_adds_the_other_widths():
    for dataset, a, rest in lines(PRINTED_1):
        b, total = rest.split()
        assert TABLE_1[name(dataset, 128)] == (int(a), int(b), int(total))
    for sweep, points in B_5.items():
        assert TABLE_1[sweep][:2] == points
    assert len(TABLE_1) == 8


def test_table_2_is_the_printed_one():
    printed = {}
    for dataset, width, ranges in lines(PRINTED_2):
        numbers = [float(number) for number in ranges.replace("[", "").replace("]", "").replace(",", "").split()]
        printed[name(dataset, width)] = (tuple(numbers[:2]), tuple(numbers[2:]))
    assert printed == TABLE_2


def test_table_3_is_the_printed_one():
    printed = {}
    for dataset, width, rest in lines(PRINTED_3):
        multipliers, numbers = rest[1:].split(") ")
        parameters, batch, iterations = numbers.split()
        multipliers = tuple(int(m) for m in multipliers.split(", "))
        printed[name(dataset, width)] = (multipliers, parameters, int(batch), int(iterations.replace(",", "")))
    assert printed == {sweep: row[:4] for sweep, row in TABLE_3.items()}


@pytest.mark.parametrize("sweep", TABLE_1)
def test_grids_have_38_sizes_among_them_all_that_the_paper_names(sweep):
    grid = size_grid(*TABLE_1[sweep])
    assert len(grid) == 38
    assert set(PUBLISHED.get(sweep, [])) <= set(grid)
    assert (grid[0], grid[4], grid[33], grid[37]) == (2, *TABLE_1[sweep])


def test_points_of_b_5_would_miss_the_size_of_fig_10():
    """The contradiction on LSUN church, width 128: only Table 1's A = 2000 gives K = 4896."""
    assert 4896 not in size_grid(4000, 16000, 126227)


def model_of(content, shape):
    with torch.device("meta"):
        return new_model(content["network"], content["diffusion"], shape, 0, torch.zeros(2, *shape))


@pytest.mark.parametrize("sweep", TABLE_1)
def test_the_sweep_of_a_table_row_says_what_the_tables_say(sweep):
    (content, settings), row = read_sweep(SWEEPS / f"{sweep}.yaml"), TABLE_3[sweep]
    dataset, width = sweep.rsplit("-", 1)
    assert content["dataset"] == dataset
    assert content["sizes"] == TABLE_1[sweep]._asdict()
    assert settings["classify"]["sizes"] == size_grid(*TABLE_1[sweep])
    network = {"name": "unet", "width": int(width), "multipliers": list(row.multipliers), "dropout": row.dropout,
               "blocks": 2, "attention": [16], "patch": 1}
    assert settings["train"]["network"] == network
    assert settings["train"]["diffusion"] == {"prediction": "noise", "steps": 1000, "beta_min": 1e-4, "beta_max": 2e-2}
    expected = {"iterations": row.iterations, "batch": row.batch, "learning_rate": 2e-4, "ema": 0.9999, "clip": 1.0,
                "noise_levels": "uniform", "repeat": False, "warmup": 0, "final_learning_rate": 1.0}
    assert {key: settings["train"][key] for key in expected} == expected
    assert settings["sample"]["ratio"] == 4
    assert settings["neighbours"]["distance"] == ("l2" if "mnist" in dataset else "lpips_alex")
    assert (settings["basin"]["distance"], settings["basin"]["delta_d"]) == ("lpips_vgg", row.delta_d)
    count = sum(parameter.numel() for parameter in model_of(settings["train"], SHAPES[dataset]).parameters())
    assert f"{count // 100_000 / 10:.1f}M" == row.parameters


def test_betas_of_b_4():
    betas = linear_betas()
    assert (len(betas), betas[0].item(), betas[-1].item()) == (1000, pytest.approx(1e-4), pytest.approx(2e-2))


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*_small.yaml")), ids=lambda path: path.stem)
def test_small_sweeps_run_the_same_code_on_the_same_data_with_smaller_numbers(path):
    content, settings = read_sweep(path)
    _, paper = read_sweep(SWEEPS / f"{content['dataset']}-128.yaml")
    assert settings["train"]["network"]["name"] == paper["train"]["network"]["name"] == "unet"
    assert settings["neighbours"] == paper["neighbours"]
    assert settings["basin"]["delta_d"] == paper["basin"]["delta_d"]
    model = model_of(settings["train"], SHAPES[content["dataset"]])
    assert sum(parameter.numel() for parameter in model.parameters()) < 1.5e6
    # As noisy at the end as a thousand steps of B.4, within a factor of three.
    assert 1 / 3 < (1 - linear_betas(100, 1e-3, 0.2)).prod() / (1 - linear_betas()).prod() < 3


def test_the_paper_is_eight_sweeps_of_38_sizes():
    assert sorted(SCALES["paper"]) == sorted(TABLE_1)
    assert sum(len(size_grid(*TABLE_1[sweep])) for sweep in SCALES["paper"]) == 304


def test_thresholds_stand_beside_the_range_of_table_2():
    """cifar10-64: delta_m in [0.01, 0.04], delta_s in [0.015, 0.025]; both ends are inside."""
    from attractors.results.classification import beside_table_2

    limits = pd.DataFrame({"K": [2, 500, 8000], "delta_m": [0.01, 0.04, 0.041], "delta_s": [0.014, 0.025, 0.02]})
    table = beside_table_2(limits, "cifar10-64", "cifar10")
    assert table.delta_m_in_table_2.tolist() == ["yes", "yes", "no"]
    assert table.delta_s_in_table_2.tolist() == ["no", "yes", "yes"]
    assert set(table.delta_m_table_2) == {"0.01 to 0.04"}
    small = beside_table_2(limits, "cifar10_small", "cifar10")  # no row of its own: that of width 128
    assert small.delta_m_in_table_2.tolist() == ["no", "no", "no"]
    assert set(small.delta_m_table_2) == {"0.015 to 0.035"}


def test_controls_have_the_names_by_which_figures_and_claims_find_them():
    controls = {name for scale in SCALES.values() for name in scale if name.endswith(("-exact", "-linear"))}
    for scale in SCALES.values():
        for name in controls.intersection(scale):
            assert name.rpartition("-")[0] in scale
            assert read_sweep(SWEEPS / f"{name}.yaml")[0]["network"]["name"] == name.rpartition("-")[2]
