"""The transcriptions that the benchmarks time give what the fast paths give."""

import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import exact_model, images, learned_model, lpips_weights, refused

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import transcriptions

from attractors.denoisers.diffusion import linear_betas
from attractors.denoisers.networks import ResidualMLP
from attractors.distances.lpips_embedding import BACKBONES, Embedding
from attractors.landscape.critical_times import critical_times, evaluations
from attractors.landscape.curvature import central_difference
from attractors.theory.likelihood import exact_divergence, flow
from attractors.theory.toy import ScoreNetwork

SHAPE = (1, 3, 3)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", [32, 40])
def test_broadcast_feature_maps_give_the_squared_distance_of_embeddings(backbone, size):
    embedding = Embedding(backbone, {name: torch.from_numpy(v) for name, v in lpips_weights(backbone).items()})
    x, y = images(5, (3, size, size)), images(7, (3, size, size), 1)
    maps = [transcriptions.feature_maps(embedding, part) for part in (x, y)]
    found = transcriptions.broadcast_lpips(*maps, x_rows=2, y_rows=3)
    torch.testing.assert_close(found, torch.cdist(embedding(x), embedding(y)).square(), rtol=1e-4, atol=0)


def test_batch_global_search_finds_the_critical_times_of_each_pattern_with_more_evaluations():
    model = exact_model(images(12), linear_betas(200, 1e-3, 5e-2))
    patterns, search = (torch.cat([images(6), images(6, seed=1)]),
                        {"delta_d": 0.8, "trials": 5, "steps": 4, "stride": 10})
    found = critical_times(model, patterns, range(12), 3407, **search)
    t_c, used = transcriptions.batch_global_search(model, patterns, range(12), 3407, **search)
    assert torch.equal(t_c, found.t_c)
    assert used == evaluations(found.searched, 5, 4, 19)[1] > evaluations(found.searched, 5, 4, 19)[0]


def test_singular_values_of_the_materialised_m_are_those_of_alg_2():
    model, x = learned_model(SHAPE), images(1)
    M = transcriptions.materialised(model, x[0], 0, 5, batch=10)
    assert M.shape == (9, 36)
    expected = torch.linalg.svdvals(M.double())
    torch.testing.assert_close(central_difference(model, x, [0], 5)[0], expected, rtol=1e-4, atol=0)


def test_a_point_by_itself_flows_as_it_does_on_the_grid():
    torch.manual_seed(0)
    model = ScoreNetwork(0, width=16, blocks=1, scale=0.5).double().requires_grad_(False)
    torch.nn.init.normal_(model.output.weight)
    x = np.random.default_rng(0).standard_normal((6, 2))
    x_T, integral = flow(exact_divergence(model), x, 0.15)
    for point, end, found in zip(x, x_T, integral, strict=True):
        alone = transcriptions.log_likelihood_of_a_point(model, point, 0.15)
        np.testing.assert_allclose(alone[0], end, atol=1e-4)
        assert alone[1] == pytest.approx(found, abs=1e-4)
        assert abs(found) > 0.1


def test_the_plain_loop_lowers_the_loss():
    betas = linear_betas(50, 1e-3, 0.2)
    alpha_bar, x = torch.cumprod(1 - betas, 0), images(8)
    torch.manual_seed(0)
    network = ResidualMLP(SHAPE, alpha_bar, width=32, blocks=1)
    t, noise = torch.arange(50).repeat(8), torch.randn(400, *SHAPE)
    x_t = transcriptions.forward_process(x.repeat_interleave(50, 0), noise, t, alpha_bar)
    before = (network(x_t, t) - noise).square().mean()
    average = transcriptions.plain_training(network, x, 300, 64, 3e-3, 0.9, alpha_bar)
    assert (average(x_t, t) - noise).square().mean() < 0.8 * before


def test_the_networks_timed_on_a_gpu_are_the_seven_of_table_3():
    import gpu

    found = gpu.networks()
    assert len(found) == 7
    assert {(shape[1], settings["width"]) for shape, settings, _ in found.values()} == {
        (28, 128), *((side, width) for side in (32, 64) for width in (64, 96, 128)),
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_one_line_says_so_and_how_to_try_the_script(tmp_path, monkeypatch):
    import gpu

    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode: None)
    line = refused(gpu, "--out", tmp_path / "gpu.json")
    assert re.fullmatch(r'Error: --device cuda: .+; to try this on a CPU: make gpu ARGS="--device cpu .+', line)
    assert not (tmp_path / "gpu.json").exists()


def test_what_there_is_no_time_left_for_is_listed():
    import gpu

    cpu = torch.device("cpu")
    rows = list(gpu.speeds(cpu, time.monotonic() + 1, quick=True))
    assert [row["note"] for row in rows] == ["no time left"] * len(gpu.modes(cpu))
    run = gpu.whole_run(cpu, time.monotonic(), quick=True)
    assert run["note"] == "subset: no time left" and run["seconds"] == {}
    assert gpu.tests(time.monotonic()) == {"note": "no time left"}


def test_the_schedule_counts_every_stage_of_a_model_that_takes_a_device():
    import schedule

    stages = schedule.read_yaml(schedule.ROOT / "models/dvc.yaml")["stages"]
    kinds = [name for name, stage in stages.items() if stage.get("foreach") == "${runs}" and stage["do"]["meta"]["gpu"]]
    assert {"train", "sample", "yardsticks"} <= set(kinds)
    runs = {"cifar10-128-2000": {"sweep": "cifar10-128", "dataset": "cifar10", "size": 2000}}
    seconds = {kind: schedule.seconds_of(f"{kind}@cifar10-128-2000", runs, 64) for kind in kinds}
    assert seconds["train"] == 22 * 3600  # App. F
    assert min(seconds.values()) > 0
