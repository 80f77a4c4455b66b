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


def replicates(entry: Any, grid: list[int]) -> dict[int, int]:
    """Return how many models are trained at each K of `grid`, from the entry `replicates` of a sweep's file.

    It is a number for all K, or a mapping from K to one, where `default` stands for the K that it does not name and is
    1 where it is missing. Raises ValueError for anything else.
    """
    given: dict[Any, Any] = entry if isinstance(entry, dict) else {"default": 1 if entry is None else entry}
    for key, count in given.items():
        if key != "default" and key not in grid:
            raise ValueError(f"replicates names {str(key)[:80]!r}; sizes are {', '.join(map(str, grid))}, and default")
        if type(count) is not int or not 1 <= count < 1000:
            raise ValueError(f"replicates is {str(count)[:80]} for {key}; it must be a whole number from 1 to 999")
    return {size: given.get(size, given.get("default", 1)) for size in grid}
