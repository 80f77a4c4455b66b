"""How a network computes, not what: precision, memory layout, compilation."""

import os
import shutil
from dataclasses import asdict, dataclass

import click
import torch
from torch.utils._triton import has_triton  # `import torch` alone does not import this module

PRECISIONS = ("auto", "float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class Acceleration:
    """precision: float32; tf32 (products of 10-bit mantissas, as the authors train); bfloat16 (autocast, weights and
    optimiser in float32). channels_last: images as [B, H, W, C] in memory. compile: torch.compile."""

    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False

    def record(self):
        """What to write beside the weights: nothing for the reference, which is all of it off."""
        return {} if self == Acceleration() else {"acceleration": asdict(self)}


def options(function):
    """--precision, --channels-last and --compile, for the stages that run a network long."""
    for option in (
        click.option(
            "--compile/--no-compile", default=None, help="torch.compile.  [default: on CUDA, with a compiler]"
        ),
        click.option(
            "--channels-last/--no-channels-last", default=None, help="Memory layout.  [default: with --compile]"
        ),
        click.option(
            "--precision", type=click.Choice(PRECISIONS), default="auto", help="auto: tf32 on CUDA, or float32."
        ),
    ):
        function = option(function)
    return function


def chosen(device, precision="auto", channels_last=None, compile=None):
    """The Acceleration for a device: what is `auto` or None is off on a CPU; on CUDA, TF32 and, where it can, compiled.

    Raises ValueError for a precision that the device does not have.
    """
    cuda = device.type == "cuda"
    if precision == "tf32" and not cuda:
        raise ValueError(f"--precision tf32 is a mode of CUDA devices; this one is {device}")
    if precision == "auto":
        precision = "tf32" if cuda else "float32"
    compilable = cuda and has_triton() and any(
        shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang")
    )  # fmt: skip
    compile = compilable if compile is None else compile
    return Acceleration(precision, compile and cuda if channels_last is None else channels_last, compile)


def accelerate(network, acceleration):
    """Make `network` compute as told, in place; its weights and their names stay as they are. Returns it.

    TF32 is a setting of the whole process; without it, convolutions too are in full float32.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = acceleration.precision == "tf32"
    if acceleration in (Acceleration(), Acceleration("tf32")):
        return network
    forward, half = network.forward, acceleration.precision == "bfloat16"

    def accelerated(x, t):
        if acceleration.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            return forward(x, t).to(x.dtype)

    network.forward = torch.compile(accelerated) if acceleration.compile else accelerated
    return network
