"""Several processes, each with its own GPU, training one model together; one process where there are no others."""

import os
from contextlib import contextmanager

import torch
import torch.distributed as dist


def rank():
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def shard(count):
    """The slice of range(count) that is this process's: consecutive parts whose lengths differ by at most 1."""
    if not dist.is_initialized():
        return slice(0, count)
    world = dist.get_world_size()
    return slice(rank() * count // world, (rank() + 1) * count // world)


def total(tensor):
    """The sum of `tensor` over the processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


@contextmanager
def started_by_torchrun(device):
    """Join the processes that torchrun started; yields this one's device, which on CUDA is its own. Else `device`."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()
