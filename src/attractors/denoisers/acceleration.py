"""How a network computes, without changing what it computes: precision, memory layout, compilation."""

import os
import shutil
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._triton import has_triton  # `import torch` alone does not import this module

from attractors.devices import allow_tf32


@dataclass(frozen=True)
class Acceleration:
    """How a network computes. The default is the reference: float32, nothing else.

    precision is float32, tf32 (products of 10-bit mantissas, as the authors train) or bfloat16 (autocast, with weights
    and optimiser in float32). channels_last stores images as [B, H, W, C] in memory. compile uses torch.compile.
    """

    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False

    def record(self) -> dict[str, Any]:
        """Return what to write beside the weights, which is nothing for the reference."""
        return {} if self == Acceleration() else {"acceleration": asdict(self)}


def chosen(
    device: torch.device, precision: str = "auto", channels_last: bool | None = None, compile: bool | None = None,
    network: str | None = None,
) -> Acceleration:
    """Return the Acceleration for a device, where `auto` and None stand for its defaults.

    On a CPU the default is the reference. On CUDA it is TF32 and, where a compiler is found, compilation. The exact
    denoiser (network: its name) is the reference everywhere: its softmax divides errors of products by sigma_t^2.
    Raises ValueError for a precision that the device does not have.
    """
    cuda = device.type == "cuda"
    if precision == "tf32" and not cuda:
        raise ValueError(f"--precision tf32 is a mode of CUDA devices; this one is {device}")
    if network == "exact":
        return Acceleration()
    if precision == "auto":
        precision = "tf32" if cuda else "float32"
    compilable = cuda and has_triton() and any(
        shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang")
    )
    compile = compilable if compile is None else compile
    return Acceleration(precision, compile and cuda if channels_last is None else channels_last, compile)


def accelerate(network: nn.Module, acceleration: Acceleration) -> nn.Module:
    """Make `network` compute in the way that `acceleration` says, in place, and return it.

    Its weights and their names stay as they are. TF32 is a setting of the whole process; without it, convolutions too
    compute in full float32.
    """
    allow_tf32(acceleration.precision == "tf32")
    if acceleration in (Acceleration(), Acceleration("tf32")):
        return network
    forward, half = network.forward, acceleration.precision == "bfloat16"

    def accelerated(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if acceleration.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            return forward(x, t).to(x.dtype)

    network.forward = torch.compile(accelerated) if acceleration.compile else accelerated
    return network
