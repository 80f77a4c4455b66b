"""Exact nearest neighbours under the Euclidean distance of features: pixels, or an LPIPS embedding."""

import numpy as np
import torch

SPARE = 11  # candidates kept beyond k, to be ranked by their exact distances


def _rows(source, index, device):
    """source[index] as float32 on the device. source: a tensor, an array, or anything else that slices to one."""
    if isinstance(source, torch.Tensor):
        return source[index].to(device, torch.float32)
    index = index.cpu().numpy() if isinstance(index, torch.Tensor) else index
    return torch.from_numpy(np.array(source[index], np.float32)).to(device)


def lower_bounds(x, y):
    """[B, m] float32, at most |x - y|^2 in spite of rounding. x: [B, D], y: [m, D] float32.

    |x|^2 + |y|^2 - 2 x.y, each norm taken smaller by what rounding can add. With u = 2^-24 and any order of
    summation, float32 gets x.y to D u / (1 - D u) |x| |y|, and 2 |x| |y| <= |x|^2 + |y|^2. Ten u more cover
    the squares, the two sums, and a common shift of x and y computed in float32; 32 are taken.
    """
    u = 2.0**-24
    shrink = 1 - (x.shape[1] + 32) * u / (1 - x.shape[1] * u)
    bounds = (x @ y.T).mul_(-2)
    for norms in (x.square().sum(1, dtype=torch.float64)[:, None], y.square().sum(1, dtype=torch.float64)):
        bounds += (shrink * norms).float()
    return bounds


def _squares(queries, references, first, second, device, memory):
    """|queries[first] - references[second]|^2 of pairs: float64, shaped like second: [p] or [p, C]; first: [p]."""
    result = torch.empty(second.shape, dtype=torch.float64, device=device)
    chunk = max(1, memory // (24 * queries.shape[1] * (second.shape[1] if second.ndim == 2 else 1)))
    for start in range(0, len(second), chunk):
        part = slice(start, start + chunk)
        y = _rows(references, second[part].flatten(), device).double().reshape(*second[part].shape, -1)
        x = _rows(queries, first[part], device).double()
        result[part] = y.sub_(x if second.ndim == 1 else x[:, None]).square_().sum(-1)
    return result


def _first_k(row, square, index, k, rows):
    """The k pairs of each row with the least (square, index): [rows, k] each, inf and -1 where there are fewer."""
    order = index.argsort(stable=True)
    order = order[square[order].argsort(stable=True)]
    order = order[row[order].argsort(stable=True)]
    row, square, index = row[order], square[order], index[order]
    rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
    row, rank, square, index = (value[rank < k] for value in (row, rank, square, index))
    found = torch.full((rows, k), float("inf"), dtype=torch.float64, device=row.device)
    indices = torch.full((rows, k), -1, dtype=torch.int64, device=row.device)
    found[row, rank], indices[row, rank] = square, index
    return found, indices


@torch.inference_mode()
def nearest(
    queries, references, k=5, self_excluded=False, memory=512 * 2**20, progress=lambda blocks: blocks,
    *, squared=False, device=None,
):  # fmt: skip
    """The k nearest references of each query, exactly: (distances: [n, k] float32 ascending, indices: [n, k] int64).

    queries: [n, D], references: [m, D] float32: tensors, arrays, or anything that slices and indexes to one, read
    a block at a time. d(x, y) = |x - y|, or its square where `squared` (LPIPS); ties go to the lower index.
    self_excluded: queries and references are the same set, and number i is no neighbour of number i. Other
    exact copies of it are. Fewer than k references leave inf and index -1.
    memory: bytes for all intermediates. device: where to compute; by default where the queries are.

    Candidates are the k + SPARE references of least `lower_bounds`; they are ranked by distances in float64. Every
    other reference is at least as far as the largest bound among the candidates: a query for which that is
    not beyond its k-th neighbour is ranked against all references whose bound is within that distance.
    """
    if torch.get_float32_matmul_precision() != "highest":
        raise ValueError("nearest needs float32 products in full precision: torch.set_float32_matmul_precision")
    (n, dimensions), m = queries.shape, len(references)
    if device is None:
        device = queries.device if isinstance(queries, torch.Tensor) else "cpu"
    # Queries, references twice, and a temporary: 16 D bytes a row; the bounds and their selection: 12 bytes a pair.
    largest = max(1, min(memory // (32 * dimensions), int((memory / 24) ** 0.5)))
    rows, columns = (-(-size // -(-size // largest)) for size in (n, m))
    keep = min(k + SPARE, m)
    # Distances do not change under a shift, but the bounds tighten.
    shift = _rows(references, slice(0, columns), device).mean(0)

    def bounds_to(x, own, start):
        bounds = lower_bounds(x, _rows(references, slice(start, start + columns), device) - shift)
        if self_excluded:
            here = (own >= start) & (own < start + bounds.shape[1])
            bounds[here, own[here] - start] = float("inf")
        return bounds

    distances, indices = torch.empty(n, k), torch.empty(n, k, dtype=torch.int64)
    for query, start in progress([(q, r) for q in range(0, n, rows) for r in range(0, m, columns)]):
        if start == 0:
            x = _rows(queries, slice(query, query + rows), device) - shift
            own = torch.arange(query, query + len(x), device=device)
            near, candidates = x.new_empty(len(x), 0), own.new_empty(len(x), 0)
        found, index = bounds_to(x, own, start).topk(min(keep, columns, m - start), 1, largest=False)
        near, candidates = torch.cat([near, found], 1), torch.cat([candidates, index + start], 1)
        near, order = near.topk(min(keep, near.shape[1]), 1, largest=False)
        candidates = candidates.gather(1, order)
        if start + columns < m:
            continue
        square = _squares(queries, references, own, candidates, device, memory // 2)
        square[near.isinf()] = float("inf")  # the query itself
        row = torch.arange(len(x), device=device)[:, None].expand_as(candidates)
        real = ~near.isinf()
        found, index = _first_k(row[real], square[real], candidates[real], k, len(x))
        doubtful = (near[:, -1] <= found[:, -1]).nonzero()[:, 0] if keep < m else own[:0]
        for part in doubtful.split(max(1, rows // 8)):
            row, square, other = own[:0], found.new_empty(0), own[:0]
            for first in range(0, m, columns):
                r, c = (bounds_to(x[part], own[part], first) <= found[part, -1:]).nonzero(as_tuple=True)
                row, other = torch.cat([row, r]), torch.cat([other, c + first])
                square = torch.cat(
                    [square, _squares(queries, references, own[part][r], c + first, device, memory // 2)]
                )
                kept, number = _first_k(row, square, other, k, len(part))
                row, rank = (number >= 0).nonzero(as_tuple=True)
                square, other = kept[row, rank], number[row, rank]
            found[part], index[part] = kept, number
        distances[query : query + len(x)] = (found if squared else found.sqrt()).float()
        indices[query : query + len(x)] = index
    return distances, indices
