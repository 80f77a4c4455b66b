"""Training one model on several GPUs, with a process for each. Without other processes, one process does all the
work.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def shard(count: int) -> slice:
    """Return the slice of range(count) that belongs to this process.

    The slices of all processes are consecutive, and their lengths differ by at most 1.
    """
    if not dist.is_initialized():
        return slice(0, count)
    world = dist.get_world_size()
    return slice(rank() * count // world, (rank() + 1) * count // world)


def total(tensor: torch.Tensor) -> torch.Tensor:
    """Sum `tensor` over all processes, in place, and return it."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


@contextmanager
def started_by_torchrun(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, for the length of the block; without torchrun, do nothing.

    device is this process's own, as `open_device` gives it; on CUDA each process has another.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
