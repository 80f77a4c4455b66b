"""The options --device and --threads, and the torch device that they choose."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from attractors.cli.options import option_of
from attractors.cli.stage import add_options
from attractors.settings.common import Common

if TYPE_CHECKING:
    import torch


def _threads(_: click.Context, __: click.Parameter, count: int) -> None:
    import torch

    torch.set_num_threads(count)


def device_option(function: Callable) -> Callable:
    """Add the options --device and --threads to a stage that uses torch."""
    threads = option_of(Common, "threads")
    threads.callback, threads.expose_value = _threads, False
    device = click.Option(["--device"], default="auto", help="cpu, cuda, cuda:1, or auto: CUDA where there is one.")
    return add_options(function, device, threads)


def find_device(name: str) -> "torch.device":
    """Return the torch device that --device means. Torch is imported only now, and ValueError says what is missing."""
    from attractors.devices import open_device

    return open_device(name)
