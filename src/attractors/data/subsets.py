"""Nested training sets (seed 3407) and the grid of their sizes (B.1)."""

from typing import Any

import numpy as np


def nested_order(count: int, seed: int = 3407) -> np.ndarray:
    """Return an order of `count` images whose first K are the training set S_K: [count] int64.

    It is one random permutation, so S_K is contained in S_K' for K < K', and S_|S| is the whole set.
    """
    import torch

    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).numpy()


def size_grid(a: int, b: int, total: int) -> list[int]:
    """Return the sizes K of a sweep (B.1): 5 in [2, A], 30 in [A, B] and 5 in [B, |S|], for points A and B of Table 1.

    Sizes are rounded down, and the ends that the ranges share are merged, which leaves 38.
    """
    ends = [np.linspace(2, a, 5), np.linspace(a, b, 30), np.linspace(b, total, 5)]
    return sorted({int(size) for part in ends for size in part})


def sizes(entry: Any) -> list[int]:
    """Return the `sizes` of a sweep's file as a list of K, from a list or a grid {a, b, total} of Table 1.

    Raises ValueError unless it is one of these, ascending, of integers from 2.
    """
    grid = isinstance(entry, dict) and set(entry) == {"a", "b", "total"}
    numbers = [entry["a"], entry["b"], entry["total"]] if grid else entry if isinstance(entry, list) else []
    if numbers and all(type(k) is int and 2 <= k < 2**31 for k in numbers) and numbers == sorted(set(numbers)):
        return size_grid(**entry) if grid else entry
    raise ValueError(
        f"sizes is {str(entry)[:80]}; it must be an ascending list of integers from 2, or a grid {{a, b, total}}"
    )
