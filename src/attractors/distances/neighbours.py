"""Exact nearest neighbours under the Euclidean distance of features, which are pixels or an LPIPS embedding."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch

from attractors.distances.axes import by_axes, useful_axes
from attractors.distances.pairs import first_k, lower_bounds, shifted, shrunken_norms, squares

SMALLEST, PARTS = 512, 8  # least references in a block; blocks in which a set is compared with itself
SPARE = 5  # candidates kept beyond k, to be ranked by their exact distances


def plain_defaults(function: Callable) -> Callable:
    """Return a function that computes in float32 on the CPU where it names neither, whatever torch's defaults are."""

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            if torch.empty(0).device.type == "cpu":
                return function(*arguments, **options)
            with torch.device("cpu"):
                return function(*arguments, **options)
        finally:
            torch.set_default_dtype(dtype)

    return called


def check_finite(features: Any, rows: int, name: str) -> None:
    """Raise ValueError naming the first row of features that holds NaN or infinity. rows: how many are read at once."""
    for start in range(0, len(features), rows):
        bad = (~shifted(features, start, rows, 0).isfinite().all(1)).nonzero()
        if len(bad):
            raise ValueError(f"{name} {start + int(bad[0])} holds NaN or infinity, so that its distances are unknown")


@plain_defaults
@torch.inference_mode()
def nearest(  # noqa: PLR0915
    queries: Any,
    references: Any,
    k: int = 5,
    self_excluded: bool = False,
    memory: int = 512 * 2**20,
    progress: Callable[[list[tuple[int, int]]], Iterable[tuple[int, int]]] = lambda blocks: blocks,
    *,
    squared: bool = False,
    device: torch.device | str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k nearest references of each query exactly.

    Returns (distances: [n, k] float32 ascending, indices: [n, k] int64). queries: [n, D] and references: [m, D] are
    float32: tensors, arrays, memmaps or a `Scratch`, read a block at a time. d(x, y) = |x - y|, or its square where
    `squared` (LPIPS); ties go to the lower index. With self_excluded, queries and references are the same set, and
    number i is not a neighbour of number i, although other exact copies of it are. Where there are fewer than k
    references, the rest is inf with index -1. memory is the number of bytes for all intermediates. device is where to
    compute; the default is where the queries are. Raises ValueError where a row holds NaN or infinity, and where
    torch computes float32 products in less than full precision.

    The candidates are the k + SPARE references with the least `lower_bounds`, and they are ranked by distances in
    float64. Every other reference is at least as far as the largest bound among the candidates. A query for which this
    bound is not beyond its k-th neighbour is ranked against all references whose bound is within that distance. With
    self_excluded each pair is bounded once, for both. On a CPU, features of many dimensions that mostly vary along few
    axes are left to `by_axes`, which finds the same.
    """
    if torch.get_float32_matmul_precision() != "highest":
        raise ValueError("nearest needs float32 products in full precision: torch.set_float32_matmul_precision")
    (n, dimensions), m = queries.shape, len(references)
    if device is None:
        device = queries.device if isinstance(queries, torch.Tensor) else "cpu"
    device = torch.device(device)
    # Half for rows: queries, and references as read and as shifted, 12 D bytes. Half for pairs: bounds, 4 bytes, and
    # what finds the least of them.
    largest = max(1, min(memory // (24 * dimensions), int((memory / 16) ** 0.5)))
    rows, columns = (-(-size // -(-size // largest)) for size in (n, m))
    columns = max(columns, min(-(-columns // 64), largest // 64) * 64)  # aligned: a product is a fifth slower without
    if self_excluded:  # smaller blocks: all but those on the diagonal are computed once instead of twice
        rows = columns = min(columns, max(SMALLEST, -(-m // (64 * PARTS)) * 64))
    keep = min(k + SPARE, m)
    check_finite(queries, rows, "query")
    if references is not queries:
        check_finite(references, columns, "reference")

    # Distances do not change under a shift, but the bounds tighten.
    shift, norms = shifted(references, 0, columns, 0, device).mean(0), {}
    axes = useful_axes(queries, references, shift, k, self_excluded, memory) if device.type == "cpu" else None
    if axes is not None:
        closest, indices = by_axes(queries, references, k, self_excluded, memory, progress, shift, axes)
        return (closest if squared else closest.sqrt()).float(), indices

    def bounds_to(x: torch.Tensor, x_norms: torch.Tensor, position: torch.Tensor, start: int) -> torch.Tensor:
        y = shifted(references, start, columns, shift, device)
        if start not in norms:
            norms[start] = shrunken_norms(y)
        bounds = lower_bounds(x, y, x_norms, norms[start])
        if self_excluded:
            at = (position - start).clamp(0, len(y) - 1)[:, None]  # the position of the query itself in this block
            bounds.scatter_(1, at, bounds.gather(1, at).where(at + start != position[:, None], float("inf")))
        return bounds

    def within(
        radius: torch.Tensor, x: torch.Tensor, x_norms: torch.Tensor, position: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the k nearest of all references whose bound is at most the radius of the query."""
        row, square, other = torch.empty(0, dtype=torch.int64), radius[:0], torch.empty(0, dtype=torch.int64)
        limit, numbers = radius[:, None].to(device), position.cpu()
        for start in range(0, m, columns):
            near = bounds_to(x, x_norms, position, start) <= limit
            r, c = (part.cpu() for part in near.nonzero(as_tuple=True))
            row, other = torch.cat([row, r]), torch.cat([other, c + start])
            square = torch.cat([square, squares(queries, references, numbers[r], c + start, memory)])
            closest, index = first_k(row, square, other, k, len(x))
            row, rank = (index >= 0).nonzero(as_tuple=True)
            square, other = closest[row, rank], index[row, rank]
        return closest, index

    near = torch.full((n, keep), float("inf"), device=device)
    candidates = torch.full((n, keep), -1, device=device)

    def offer(first: int, bounds: torch.Tensor, start: int) -> None:
        """Let references from `start` on be candidates of queries from `first` on, by bounds of their distances."""
        at = slice(first, first + len(bounds))
        least, index = bounds.topk(min(keep, bounds.shape[1]), 1, largest=False)
        near[at], order = torch.cat([near[at], least], 1).topk(keep, 1, largest=False)
        candidates[at] = torch.cat([candidates[at], index + start], 1).gather(1, order)

    distances, indices = torch.empty(n, k), torch.empty(n, k, dtype=torch.int64)
    blocks = [(q, r) for q in range(0, n, rows) for r in range(q if self_excluded else 0, m, columns)]
    for query, start in progress(blocks):
        if start == (query if self_excluded else 0):
            x = shifted(queries, query, rows, shift, device)
            x_norms, position = shrunken_norms(x), torch.arange(query, query + len(x), device=device)
        bounds = bounds_to(x, x_norms, position, start)
        offer(query, bounds, start)
        if self_excluded and start > query:  # the same pairs, seen from the other side
            offer(start, bounds.T.contiguous(), query)
        if start + columns < m:
            continue
        bound, candidate = near[query : query + len(x)].cpu(), candidates[query : query + len(x)].cpu()
        row, rank = bound.isfinite().nonzero(as_tuple=True)  # not the query itself
        index = candidate[row, rank]
        closest, index = first_k(row, squares(queries, references, row + query, index, memory), index, k, len(x))
        doubtful = (bound[:, -1] <= closest[:, -1]).nonzero()[:, 0] if keep < m else row[:0]
        for part in doubtful.split(max(1, rows // 8)) if len(doubtful) else ():  # split would yield one empty part
            doubted = part.to(device)
            closest[part], index[part] = within(closest[part, -1], x[doubted], x_norms[doubted], position[doubted])
        distances[query : query + len(x)] = (closest if squared else closest.sqrt()).float()
        indices[query : query + len(x)] = index
    return distances, indices
