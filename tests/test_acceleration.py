"""Training at scale: dropout that resumes, several processes, other precisions, against plain training in float32."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from builders import python, randomised, run

from attractors.arrays import read_arrays, write_arrays
from attractors.denoisers import training
from attractors.denoisers.acceleration import Acceleration, accelerate, chosen
from attractors.denoisers.distributed import rank, shard, total
from attractors.denoisers.models import new_model
from attractors.denoisers.training import train
from attractors.denoisers.unet import UNet
from attractors.settings.train import Training
from attractors.stages import train as stage

CPU = torch.device("cpu")
NETWORK = {"name": "unet", "width": 32, "multipliers": [1, 1], "blocks": 1, "attention": [], "dropout": 0.5}
SETTINGS = Training(iterations=10, batch=3, learning_rate=1e-3, ema=0.9)


def images(count=5):
    return torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1


def model(**changes):
    return new_model(NETWORK | changes, {}, (1, 4, 4), 3, images())


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_dropout_resumes_to_the_same_bytes_whatever_the_global_generator_holds(monkeypatch):
    monkeypatch.setattr(training, "CHECK_EVERY", 5)
    states, before = [], torch.get_rng_state()
    whole = train(model(), images(), SETTINGS, 0, save=lambda state: states.append(torch.load(kept(state))))
    assert torch.equal(torch.get_rng_state(), before)
    assert [state["step"] for state in states] == [5, 10]
    torch.manual_seed(99)
    assert same(whole, train(model(), images(), SETTINGS, 0, state=states[0]))
    assert not same(whole, train(model(), images(), SETTINGS, 1))
    assert not same(whole, train(model(dropout=0.0), images(), SETTINGS, 0))


def kept(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def test_a_trained_model_is_left_without_dropout():
    trained = model()
    train(trained, images(), Training(iterations=3, batch=2, learning_rate=1e-3), 0)
    x, t = images(), torch.arange(5)
    assert torch.equal(trained.noise_prediction(x, t), trained.noise_prediction(x, t))


def test_shards_are_consecutive_and_differ_by_at_most_one_and_alone_a_process_has_everything(monkeypatch):
    assert (rank(), shard(7), total(torch.ones(2)).tolist()) == (0, slice(0, 7), [1, 1])
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    for count in (2, 3, 128, 130):
        parts = []
        monkeypatch.setattr(dist, "get_world_size", lambda: 3)
        for number in range(3):
            monkeypatch.setattr(dist, "get_rank", lambda number=number: number)
            parts.append(range(count)[shard(count)])
        assert [i for part in parts for i in part] == list(range(count))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.fixture
def small_run(tmp_path):
    """The command line of a short training run, without --out."""
    write_arrays(tmp_path / "s", {"images": images(4).numpy()}, size=4)
    (tmp_path / "sweep.yaml").write_text(
        "network: {name: mlp, width: 32, blocks: 1}\n"
        "train: {iterations: 30, batch: 4, learning_rate: 0.001, ema: 0.9}\n"
    )
    return ["--sweep", str(tmp_path / "sweep.yaml"), "--subset", str(tmp_path / "s"), "--device", "cpu"]


@pytest.mark.parametrize("size", [2, 4])  # batches of 2 leave one of three processes without an image
def test_three_processes_of_torchrun_train_the_model_of_one(size, small_run, tmp_path):
    arguments = [*small_run, "--size", str(size), "--out"]
    run(stage, *arguments, tmp_path / "alone")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3", "--standalone"]
    script = Path(stage.__file__).parents[2] / "main.py"
    done = subprocess.run([*command, str(script), "train", *arguments, str(tmp_path / "together")], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("parameters after 30 steps") == 1
    (one, record), (three, other) = (read_arrays(tmp_path / name) for name in ("alone", "together"))
    assert record == other
    for name, value in one.items():
        np.testing.assert_allclose(three[name], value, rtol=1e-3, atol=2e-5, err_msg=name)


def unet():
    return randomised(UNet((1, 8, 8), None, 32, (1, 2), 1, (8,)))


@pytest.mark.parametrize(("acceleration", "tolerance"), [
    (Acceleration("bfloat16"), 0.02),
    (Acceleration(channels_last=True), 1e-5),
    (Acceleration("bfloat16", True), 0.02),
])
def test_an_accelerated_network_computes_nearly_the_same_in_float32_with_the_same_weights(acceleration, tolerance):
    x, t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 10, 500, 999])
    plain, fast = unet(), accelerate(unet(), acceleration)
    with torch.no_grad():
        expected, found = plain(x, t), fast(x, t)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < tolerance * expected.norm()
    assert (acceleration.precision != "bfloat16") or not torch.equal(found, expected)
    assert same(plain.state_dict(), fast.state_dict())


def test_training_in_bfloat16_keeps_weights_in_float32_and_learns_to_see_the_noise():
    """The noise of pure noise is the input itself: an untrained network is off by 1, a trained one by little."""
    trained = model(dropout=0.0)
    accelerate(trained.network, Acceleration("bfloat16"))
    weights = train(trained, images(4), Training(iterations=30, batch=4, learning_rate=3e-3, ema=0.5), 0)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    noise = torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    assert (trained.noise_prediction(noise, 999) - noise).square().mean() < 0.3


def test_compile_is_asked_for_once_and_keeps_the_names_of_the_weights(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    network = accelerate(unet(), Acceleration(compile=True))
    assert len(compiled) == 1
    assert network.state_dict().keys() == unet().state_dict().keys()


CHOICE = """\
import torch
from attractors.denoisers.acceleration import chosen

print(chosen(torch.device("cuda"), compile=None).precision)
"""


def test_what_cuda_takes_by_default_can_be_asked_in_a_fresh_process():
    """In this process other modules may have imported what the function needs; in a stage's process none has."""
    assert python(CHOICE) == "tf32\n"


def test_on_a_cpu_everything_is_off_and_leaves_no_trace_in_the_record(small_run, tmp_path):
    assert chosen(CPU) == Acceleration()
    assert chosen(CPU, "bfloat16", compile=True) == Acceleration("bfloat16", False, True)
    with pytest.raises(ValueError, match="--precision tf32 is a mode of CUDA"):
        chosen(CPU, "tf32")
    for arguments, trace in (([], None), (["--precision", "bfloat16"], "bfloat16")):
        run(stage, *small_run, "--size", 2, "--out", tmp_path / "o", *arguments)
        _, record = read_arrays(tmp_path / "o")
        assert record.get("acceleration", {}).get("precision") == trace
