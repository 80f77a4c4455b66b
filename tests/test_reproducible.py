"""The same inputs give the same bytes, and a killed training ends with the bytes of one that was not."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from builders import killed, processed, python

from attractors.denoisers import checkpoints
from attractors.denoisers.checkpoints import Checkpoint
from attractors.files import atomic, file_hash
from attractors.stages import train

CPU = torch.device("cpu")

SWEEP = """\
dataset: digits
sizes: [4]
network: {name: mlp, width: 32, blocks: 1}
diffusion: {prediction: velocity}
train: {iterations: 1200, batch: 64, repeat: true, learning_rate: 0.003, warmup: 10, noise_levels: lognormal}
sample: {floor: 64}
"""


def train_arguments(folder):
    inputs = ["--sweep", folder / "sweep.yaml", "--subset", folder / "digits.safetensors"]
    return [*inputs, "--size", 4, "--out", "model.safetensors"]


def pipeline(folder):
    """A whole small run in `folder`; returns the hash of every file it made."""
    folder.mkdir()
    (folder / "sweep.yaml").write_text(SWEEP)
    sweep = ["--sweep", "sweep.yaml"]
    for command in (
        ["subset", "digits", "--out", "digits.safetensors"],
        ["train", *train_arguments(folder)],
        ["sample", *sweep, "--model", "model.safetensors", "--out", "s/4.safetensors"],
        ["neighbours", *sweep, "--synthetic", "s/4.safetensors", "--training", "digits.safetensors", "--size", 4,
         "--out", "n/4.safetensors"],
        ["classify", "n", *sweep, "--types", "types", "--out", "metrics"],
        ["figure_histograms", "metrics", "sweep", "--out", "h.png", "--out", "h.pdf"],
    ):
        processed(*command, folder=folder)
    return {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    with ThreadPoolExecutor(2) as pool:
        return root / "first", *pool.map(pipeline, (root / "first", root / "second"))


def test_two_runs_of_a_small_pipeline_write_the_same_bytes(twice):
    _, first, second = twice
    assert len(first) == 14
    assert first == second


def test_a_training_killed_with_sigkill_resumes_from_its_checkpoint_to_the_same_bytes(twice, tmp_path):
    whole, first, _ = twice
    for name in ("sweep.yaml", "digits.safetensors"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    killed(tmp_path / ".resume", "train", *train_arguments(tmp_path), folder=tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    processed("train", *train_arguments(tmp_path), folder=tmp_path)
    assert file_hash(tmp_path / "model.safetensors") == first["model.safetensors"]
    assert [p.name for p in tmp_path.rglob("*") if p.is_file() and "tmp" in p.name] == []
    assert list((tmp_path / ".resume").iterdir()) == []


def test_the_bytes_do_not_hang_on_how_many_threads_the_environment_grants(tmp_path):
    network = ["--width", 16, "--blocks", 1, "--iterations", 20, "--batch", 32]
    processed("toy_train", "--size", 1000, *network, "--out", "model.safetensors", folder=tmp_path)
    few = ["--model", "model.safetensors", "--samples", 20, "--steps", 20, "--side", 8, "--metrics", "m.json"]
    found = []
    for count in ("1", "2"):
        granted = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), count)
        processed("toy_evaluate", *few, "--out", "toy.safetensors", folder=tmp_path, **granted)
        found.append([file_hash(tmp_path / name) for name in ("m.json", "toy.safetensors")])
    assert found[0] == found[1]


LATER = """\
import sys
import click
import threadpoolctl
from attractors.cli.stage import Stage

@click.command(cls=Stage)
def main():
    import scipy.linalg
    libraries = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    assert len(libraries) > 1
    click.echo({library["num_threads"] for library in libraries})

assert "scipy.linalg" not in sys.modules
main()
"""


def test_products_of_libraries_that_a_stage_loads_late_take_one_thread_too(tmp_path):
    assert python(LATER, folder=tmp_path, OPENBLAS_NUM_THREADS="2") == "{1}\n"


def test_a_training_goes_on_only_from_a_state_of_as_many_threads(tmp_path):
    paths = []
    for count in (1, 2, 1):
        torch.set_num_threads(count)
        paths.append(Checkpoint(tmp_path / "model", train.__file__, CPU, size=4).path)
    assert paths[0] == paths[2] != paths[1]


def test_a_write_that_fails_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="No space left") as met, atomic(tmp_path / "out") as partial:
        partial.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert met.value.filename == str(tmp_path / "out")

    def full(state, path):
        path.touch()
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(ValueError, match=r"\.resume/\w+\.pt: could not be written; is the disk full\?"):
        Checkpoint(tmp_path / "model", train.__file__, CPU, size=4).save({})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
