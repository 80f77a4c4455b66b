"""Distances of pairs of features: bounds that hold in spite of rounding, and exact values."""

from typing import Any

import numpy as np
import torch

U = 2.0**-24  # the unit roundoff of float32
CACHED = 2**20  # bytes of differences at a time, which fit in a processor's cache


def _rows(source: torch.Tensor | np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return source[index] as a float32 array: [p, D]. source: a tensor, an array or a memmap."""
    rows = source[index]
    return np.asarray(rows.cpu() if isinstance(rows, torch.Tensor) else rows, np.float32)


def shifted(
    source: Any, start: int, size: int, shift: torch.Tensor | float, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Return source[start : start + size] - shift on the device: [p, D] float32, always a copy."""
    part = source[start : start + size]
    if isinstance(part, torch.Tensor):
        return part.to(device, torch.float32, copy=True).sub_(shift)
    block = torch.empty(part.shape, pin_memory=torch.device(device).type == "cuda")  # a copy from there needs no wait
    np.copyto(block.numpy(), part)
    return block.to(device, non_blocking=True).sub_(shift)


def squared_norms(x: torch.Tensor) -> torch.Tensor:
    """Return |x|^2 of each row of x: [n, D] float32, summed in float64: [n]."""
    return torch.cat([part.square().sum(1, dtype=torch.float64) for part in x.split(256)])


def shrinkage(dimensions: int) -> float:
    """Return the share of |x|^2 + |y|^2 that rounding can add to `lower_bounds` of vectors of that many dimensions.

    With u = 2^-24 and any order of summation, the error of x.y in float32 is at most D u / (1 - D u) |x| |y|, and 2 |x|
    |y| <= |x|^2 + |y|^2. Another 10 u would cover the squares, the sums, and a shift of x and y computed in float32; 32
    u are counted.
    """
    return (dimensions + 32) * U / (1 - dimensions * U)


def shrunken_norms(x: torch.Tensor) -> torch.Tensor:
    """Return |x|^2 minus everything that rounding can add to `lower_bounds`: [n] float32. x: [n, D] float32."""
    return (squared_norms(x) * (1 - shrinkage(x.shape[1]))).float()


def lower_bounds(x: torch.Tensor, y: torch.Tensor, x_norms: torch.Tensor, y_norms: torch.Tensor) -> torch.Tensor:
    """Return lower bounds of |x - y|^2 that hold in spite of rounding: [B, m] float32.

    They are |x|^2 + |y|^2 - 2 x.y with the norms of `shrunken_norms`. x: [B, D] and y: [m, D] are float32.
    """
    return (x @ y.T).mul_(-2).add_(x_norms[:, None]).add_(y_norms)


def squares(queries: Any, references: Any, first: torch.Tensor, second: torch.Tensor, memory: int) -> torch.Tensor:
    """Return |queries[first] - references[second]|^2 of pairs, in float64 and one thread: [p].

    first, second: [p] int64. memory: bytes for intermediates.
    """
    result = torch.empty(len(first), dtype=torch.float64)
    chunk = max(1, min(CACHED, memory // 2) // (8 * queries.shape[1]))
    for start in range(0, len(first), chunk):
        part = slice(start, start + chunk)
        x, y = _rows(queries, first[part].numpy()), _rows(references, second[part].numpy())
        difference = np.subtract(x, y, dtype=np.float64)
        result[part] = torch.from_numpy(np.einsum("pd,pd->p", difference, difference))
    return result


def first_k(
    row: torch.Tensor, square: torch.Tensor, index: torch.Tensor, k: int, rows: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k pairs of each row with the least (square, index): two [rows, k].

    A row with fewer pairs is filled with inf and -1.
    """
    order = index.argsort(stable=True)
    order = order[square[order].argsort(stable=True)]
    order = order[row[order].argsort(stable=True)]
    row, square, index = row[order], square[order], index[order]
    rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
    row, rank, square, index = (value[rank < k] for value in (row, rank, square, index))
    least = torch.full((rows, k), float("inf"), dtype=torch.float64, device=row.device)
    indices = torch.full((rows, k), -1, dtype=torch.int64, device=row.device)
    least[row, rank], indices[row, rank] = square, index
    return least, indices
