"""The device on which a stage computes, and the one policy of precision and determinism.

Every stage that takes --device opens it with `open_device`, which makes the process compute in full float32 by
deterministic kernels. Code that may run faster asks for it with `arithmetic`, the only function that allows less
precision.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def open_device(name: str) -> torch.device:
    """Return the torch device called `name`, after calling `full_precision`.

    name is cpu, cuda, cuda:1, or auto, which is CUDA where there is one. A process that torchrun started opens only the
    GPU of its own number. `cuda` is returned with its number, as `cuda:0`. Raises ValueError where there is no such
    device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "TORCHELASTIC_RUN_ID" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        kind = torch.device(name).type
        if kind not in ("cpu", "cuda"):  # Apple's mps has no float64, in which schedules and spectra are computed
            raise ValueError(f"--device {name}: it must be cpu, cuda, cuda:NUMBER or auto")
        full_precision(deterministic=kind == "cuda")  # before CUDA starts, which reads a setting from the environment
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from None


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy an array to the device. CUDA gets it by way of pinned memory, so that the host does not wait for the copy.
    """
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor).to(device, non_blocking=True)


def full_precision(deterministic: bool) -> None:
    """Make this process compute products and convolutions in full float32.

    By default torch allows TF32, which has 10-bit mantissas, in the convolutions of CUDA. deterministic: use only
    kernels that give the same bits each time; an operator that has none raises RuntimeError.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it products may differ between runs
    allow_tf32(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads what it has not written


def allow_tf32(allowed: bool) -> tuple[bool, bool]:
    """Set whether products and convolutions may use TF32, and return the previous setting."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    return before


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in a precision: float32, tf32 (CUDA's products of 10-bit mantissas), or bfloat16, float16 (autocast).

    A backward pass belongs into the block: TF32 is decided when a product is computed. Raises ValueError for tf32
    elsewhere than on CUDA.
    """
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"--precision tf32 is a mode of CUDA devices; this one is {device}")
    before = allow_tf32(precision == "tf32")
    half = precision in ("bfloat16", "float16")
    try:
        with torch.autocast(device.type, getattr(torch, precision) if half else None, enabled=half):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
