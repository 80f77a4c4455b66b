"""The options --device and --threads, and the torch device that they choose."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from attractors.cli.options import option_of
from attractors.settings.common import Common

if TYPE_CHECKING:
    import torch


def _threads(_: click.Context, __: click.Parameter, count: int) -> None:
    import torch

    torch.set_num_threads(count)


def device_option(function: Any) -> Callable:
    """Add the options --device and --threads to a stage that uses torch."""
    threads = option_of("threads", Common.model_fields["threads"])
    threads.callback, threads.expose_value = _threads, False
    function.__click_params__ = [*getattr(function, "__click_params__", []), threads]
    return click.option("--device", default="auto", help="cpu, cuda, cuda:1, or auto: CUDA where there is one.")(
        function
    )


def find_device(name: str) -> "torch.device":
    """Return the torch device that --device means, importing torch only now.

    It is opened by `attractors.devices.open_device`. Raises ValueError where there is no such device.
    """
    from attractors.devices import open_device

    return open_device(name)
