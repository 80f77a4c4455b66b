"""Derivatives of a score: products with its Jacobian from either side, and the Jacobian itself.

A field maps x: [B, ...] to values of the same shape, and each row of the result depends on the same row of x alone, as
for a score at a fixed time. Its Jacobian J at one row has the entries d field_i / d x_j. Everything, the backward pass
included, is computed in full float32 or float64 whatever arithmetic the process has chosen, and with an attention that
has derivatives in both modes.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from attractors.devices import arithmetic

Field = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    with arithmetic("float32", device), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's own scripted derivatives
        yield


def forward_products(field: Field, x: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Return J v for each of directions v: [M, ...] at one place x: [1, ...], by forward-mode differentiation: [M,
    ...].
    """
    with _exact(x.device):
        return torch.func.jvp(field, (x.expand(directions.shape).contiguous(),), (directions,))[1]


def reverse_products(field: Field, x: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (field at x: [B, ...], J^T v: [M, B, ...]) for directions v: [M, B, ...], by reverse-mode differentiation.

    The field is evaluated once for all M directions, and its intermediate results are held once.
    """
    with _exact(x.device):
        value, pullback = torch.func.vjp(field, x)  # type: ignore[misc]  # its type allows a third output
        return value, torch.func.vmap(pullback)(directions)[0]


def jacobian(field: Field, x: torch.Tensor, batch: int | None = None) -> torch.Tensor:
    """Return the Jacobian at each of x: [B, ...], N numbers a row: [B, N, N]; [b, i, j] is d field_i / d x_j at row b.

    Reverse mode computes it row by row. batch: rows of Jacobians at a time. [default: all of them]
    """
    dimensions = math.prod(x.shape[1:])
    identity = torch.eye(dimensions, dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:])
    width = dimensions if batch is None else max(1, batch // len(x))
    result = x.new_empty(len(x), dimensions, dimensions)
    with _exact(x.device):
        _, pullback = torch.func.vjp(field, x)  # type: ignore[misc]  # its type allows a third output
        for first, rows in zip(range(0, dimensions, width), identity.split(width), strict=True):
            block = torch.func.vmap(pullback)(rows.expand(-1, *x.shape))[0]  # [M, B, ...]
            result[:, first : first + width] = block.flatten(2).transpose(0, 1)
    return result
