"""The policy of precision and determinism, and what is said where a device or its memory does not suffice."""

import os

import click
import pytest
import torch
from builders import python
from click.testing import CliRunner

from attractors import devices
from attractors.cli.stage import Stage
from attractors.denoisers.acceleration import Acceleration, chosen
from attractors.devices import arithmetic, open_device

FLAGS = """\
import torch
print(torch.backends.cudnn.allow_tf32)
from attractors.cli.devices import find_device
find_device("cpu")
print(torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.deterministic)
"""


def test_in_a_fresh_process_torch_allows_tf32_until_a_stage_opens_its_device():
    assert python(FLAGS).split("\n")[:2] == ["True", "False False True"]


def test_cuda_is_deterministic_and_a_cpu_is_left_as_it_is(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    open_device("cpu")
    with pytest.raises(ValueError, match="--device cuda:7"):
        open_device("cuda:7")
    assert asked == [False, True]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.parametrize("name", ["mps", "meta", "xpu", "nonsense", "cuda:x"])
def test_a_device_that_is_not_offered_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=f"--device {name}: [^\n]+$"):
        open_device(name)


def test_each_process_of_torchrun_opens_its_own_gpu_and_no_other(monkeypatch):
    opened = []

    def zeros(count, device):
        opened.append(device)
        return torch.empty(count)

    monkeypatch.setattr(devices.torch, "zeros", zeros)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode: None)
    for name in ("auto", "cuda", "cuda:1", "cpu"):
        open_device(name)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("LOCAL_RANK", "3")
    for name in ("auto", "cuda", "cpu"):
        open_device(name)
    assert opened == ["cuda", "cuda", "cuda:1", "cpu", "cuda:3", "cuda:3", "cpu"]


def test_less_than_float32_is_allowed_inside_the_block_only():
    def flags():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    open_device("cpu")
    with arithmetic("tf32", torch.device("cuda")):
        assert flags() == (True, True)
        with arithmetic("float32", torch.device("cuda")):
            assert flags() == (False, False)
        assert flags() == (True, True)
    assert flags() == (False, False)
    with pytest.raises(ValueError, match="--precision tf32 is a mode of CUDA"), arithmetic("tf32", torch.device("cpu")):
        pass


def test_the_exact_denoiser_is_exact_whatever_is_asked_for():
    cuda = torch.device("cuda")
    assert chosen(cuda, network="exact") == chosen(cuda, "bfloat16", True, True, "exact") == Acceleration()
    assert chosen(cuda, compile=False, network="unet") == Acceleration("tf32")


@pytest.mark.parametrize(("error", "line"), [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
    (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), True),
    (RuntimeError("Storage size calculation overflowed with sizes=[4611686018427387904]"), True),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    (RuntimeError("Expected all tensors to be on the same device"), False),
    (RuntimeError("cannot allocate a name for this operator: overflow of the table"), False),
])
def test_too_little_memory_is_one_line_under_any_of_its_names_and_other_errors_are_not(error, line):
    @click.command(cls=Stage)
    def stage():
        raise error

    result = CliRunner().invoke(stage)
    assert result.exit_code == 1
    assert ("Error: too large (" in result.output) == line
    assert isinstance(result.exception, SystemExit if line else RuntimeError)
