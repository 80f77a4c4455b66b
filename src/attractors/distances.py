"""Exact nearest neighbours under a squared Euclidean distance of features: pixels, or an LPIPS embedding."""

import torch

SPARE = 27  # candidates kept beyond k, to be ranked again by direct differences


def _ranked(queries, references, candidates, k):
    """The k nearest of each query's candidates by direct difference, ties to the lower index.

    candidates: [B, C] int64, ascending along C. Returns distances [B, k] float32 and indices [B, k].
    """
    difference = references[candidates] - queries[:, None]  # [B, C, D]
    distances, order = difference.square_().sum(2).sqrt_().sort(1, stable=True)
    return distances[:, :k], candidates.gather(1, order[:, :k])


@torch.inference_mode()
def nearest(queries, references, k=5, self_excluded=False, memory=256 * 2**20, progress=lambda blocks: blocks):
    """The k nearest references of each query, exactly: (distances: [n, k] float32 ascending, indices: [n, k] int64).

    queries: [n, D], references: [m, D] float32 on one device. d(x, y) = |x - y|, ties to the lower index.
    self_excluded: queries and references are the same set, and number i is no neighbour of number i. Other
    exact copies of it are. Fewer than k references leave inf and index -1.
    memory: bytes for the largest intermediate.

    Candidates come from |x|^2 + |y|^2 - 2 x.y, whose rounding error is bounded; they are ranked by direct
    differences, and a query for which the bound leaves doubt about its candidates is ranked against all.
    """
    n, (m, dimensions) = len(queries), references.shape
    available = m - 1 if self_excluded else m
    keep = min(k + SPARE, m)
    squares = references.square().sum(1)
    # Rounding of the expansion: about sqrt(D) units in the last place of |x|^2 + |y|^2; 8 of them to be safe.
    unit = 8 * torch.finfo(torch.float32).eps * max(dimensions, 1) ** 0.5
    distances = queries.new_full((n, k), float("inf"))
    indices = torch.full((n, k), -1, dtype=torch.int64, device=queries.device)
    block = max(1, min(n, memory // (4 * max(m, keep * dimensions))))
    full = max(1, memory // (4 * m * dimensions))
    everything = torch.arange(m, device=queries.device)
    k = min(k, available)
    for start in progress(range(0, n, block)):
        x = queries[start : start + block]
        own = torch.arange(start, start + len(x), device=x.device)
        norms = x.square().sum(1)
        expansion = torch.addmm(squares[None], x, references.T, alpha=-2).add_(norms[:, None])  # [B, m]
        if self_excluded:
            expansion[torch.arange(len(x)), own] = float("inf")
        near, candidates = expansion.topk(keep, 1, largest=False)
        found, index = _ranked_without(x, references, candidates.sort(1).values, k, own if self_excluded else None)
        error = unit * (norms + squares.max())
        doubtful = (found[:, -1].square() + error >= near[:, -1] - error) if keep < m else norms < 0
        for rows in doubtful.nonzero()[:, 0].split(full):
            candidates = everything.expand(len(rows), m)
            found[rows], index[rows] = _ranked_without(
                x[rows], references, candidates, k, own[rows] if self_excluded else None
            )
        distances[start : start + len(x), :k], indices[start : start + len(x), :k] = found, index
    return distances, indices


def _ranked_without(queries, references, candidates, k, own):
    """`_ranked`, leaving the reference number own: [B] of each query out where it is among its candidates."""
    if own is None:
        return _ranked(queries, references, candidates, k)
    found, index = _ranked(queries, references, candidates, min(k + 1, candidates.shape[1]))
    is_self = index == own[:, None]
    # Without self among the first k + 1, the last one goes.
    is_self[~is_self.any(1), -1] = True
    order = is_self.to(torch.int8).argsort(1, stable=True)[:, :k]
    return found.gather(1, order), index.gather(1, order)
