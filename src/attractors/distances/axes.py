"""Exact nearest neighbours by lower bounds of distances on the principal axes of the references."""

import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from attractors.distances.pairs import U, first_k, shifted, shrinkage, squared_norms, squares

FEWEST = 256  # dimensions below which the product of whole features is cheap
COUNTS = (29, 45, 61, 93, 125, 189, 253, 381, 509)  # axes that are tried: three less than a multiple of 16
SAMPLE, TRIED = 1024, (32, 512)  # references whose axes are taken; queries and references with which they are tried
CHUNK = 512  # dimensions that one float32 sum of a projection runs over; the chunks are added in float64
UNDERFLOW = 2.0**-100  # more than float32 can lose of a squared distance because a term is too small for it
BLOCK, GROUP = 512, 16  # references multiplied at a time, and those of which the nearest is taken for the first radius
PANEL = 2**16  # references of which the bounds are in memory at a time
GATHERED = 16  # a gathered product takes the time of so many operations of a matrix product, for each dimension
FOUND = 3000  # so does finding a pair among the bounds
PREPARED = 50  # projecting on so many axes takes the time of all other work on a row of features
SAVED = 50  # looking at the least bounds of groups saves the time of so many operations


class Axes(NamedTuple):
    """Orthonormal columns, with a bound on how far rounding leaves them from orthonormal."""

    columns: torch.Tensor  # [D, d] float32
    excess: float  # at least the spectral norm |W^T W - I| of these columns W


class Vectors(NamedTuple):
    """Vectors v whose distances, reduced by their errors, are at most the distances of the features."""

    values: torch.Tensor  # [n, d + 3] float32: v in d + 1 dimensions, |v|^2 shrunken for `lower_bounds`, and 1
    errors: torch.Tensor  # [n] float64: how far rounding may have moved v
    squares: torch.Tensor  # [n] float64: |x|^2, of the features less the shift


def principal_axes(sample: torch.Tensor, count: int) -> torch.Tensor:
    """Return about the `count` leading principal axes of a sample: orthonormal columns [D, count], the leading axis
    first.

    sample: [r, D] float32 with a mean of about zero and r >= count. This is a randomized singular value decomposition
    (Halko et al. 2011) with one power iteration, from the same start every time. Any orthonormal columns give correct
    bounds; principal axes give tight ones.
    """
    start = torch.randn(len(sample), count, generator=torch.Generator().manual_seed(0))
    columns = torch.linalg.qr(sample.T @ start)[0]
    columns = torch.linalg.qr(sample.T @ (sample @ columns))[0]
    projected = (sample @ columns).double()
    return columns @ torch.linalg.eigh(projected.T @ projected)[1].flip(1).float()


def with_excess(columns: torch.Tensor) -> Axes:
    """Return Axes from columns: [D, d] float32 that are about orthonormal."""
    product = sum(part.double().T @ part.double() for part in columns.split(4096))
    error = product - torch.eye(columns.shape[1], dtype=torch.float64)
    return Axes(columns, error.norm().item() * (1 + 1e-6) + 1e-12)


def cheapest_axes(
    sample: torch.Tensor, queries: torch.Tensor, others: torch.Tensor, share: float, per_axis: float, most: int
) -> Axes | None:
    """Return the axes with which a search costs least, or None where products of whole features cost less.

    sample: [r, D] are references whose principal axes are taken. The search is tried with queries: [s, D] and other
    references, others: [t, D]. All features are float32. share is the number of wanted neighbours divided by that of
    all references. per_axis is the cost of projecting the features on one axis, for each pair. most is the largest
    number of axes.

    Costs are in operations of a matrix product for each pair. The number of surviving references is measured: those
    whose bound is within the distance to the nearest of `others`, in proportion to the share. Three times as many are
    expected in the search, because `others` are few and therefore far, and because a search begins with a larger radius
    than it ends with.
    """
    dimensions, counts = sample.shape[1], [count for count in COUNTS if count <= min(most, sample.shape[1] // 4)]
    if not counts:
        return None
    columns = principal_axes(sample, counts[-1])
    norms, projected = [squared_norms(part) for part in (queries, others)], [queries @ columns, others @ columns]
    radius = (norms[0][:, None] + norms[1] - 2 * (queries @ others.T).double()).amin(1, keepdim=True)
    least, best = 0.8 * 2 * dimensions + SAVED, None
    for count in counts:
        z = [part[:, :count].double() for part in projected]
        rest = [(norm - part.square().sum(1)).clamp(min=0).sqrt() for norm, part in zip(norms, z, strict=True)]
        short = [torch.cat([part, last[:, None]], 1) for part, last in zip(z, rest, strict=True)]
        surviving = (torch.cdist(*short).square() <= radius).double().mean().item() * len(others) * share  # type: ignore[arg-type]
        cost = 2 * (count + 3) + per_axis * (count + PREPARED) + 3 * surviving * (GATHERED * dimensions + FOUND)
        if cost < least:
            least, best = cost, count
    return None if best is None else with_excess(columns[:, :best].contiguous())


def useful_axes(
    queries: Any, references: Any, shift: torch.Tensor, k: int, self_excluded: bool, memory: int
) -> Axes | None:
    """Return axes for `by_axes`, or None where it would not be faster than products of whole features.

    The arguments are those of `by_axes`. The trial costs at most a few hundredths of these products, and nothing where
    the features have few dimensions.
    """
    (n, dimensions), m = queries.shape, len(references)
    sampled = int(min(SAMPLE, memory // (24 * dimensions), (n * m) ** 0.5 / 8, m // 2))
    most = min(sampled // 2, memory // (16 * m) - 3)
    if dimensions < FEWEST or n < TRIED[0] or most < COUNTS[0]:
        return None

    def spread(source: Any, count: int, offset: float) -> torch.Tensor:
        """Return `count` rows from all parts of the source; another offset between 0 and 1 gives other rows."""
        index = ((np.arange(count) + offset) * (len(source) / count)).astype(np.int64)
        return shifted(source[index], 0, count, shift)

    per_axis = 2 * dimensions * (1 / m if self_excluded else 1 / n + 1 / m)
    tried = spread(queries, TRIED[0], 0.5), spread(references, min(TRIED[1], sampled), 0.99)
    return cheapest_axes(spread(references, sampled, 0.25), *tried, k / m, per_axis, most)


def vectors(x: torch.Tensor, axes: Axes) -> Vectors:
    """Return the Vectors (W^T x, |x - W W^T x|) of x: [n, D] float32, with W the axes.

    For orthonormal W every pair has |x - y|^2 = |W^T (x - y)|^2 + |(I - W W^T) (x - y)|^2, and the length of a
    difference is at least the difference of the lengths; so the distance of the vectors is at most that of the
    features. With sums over CHUNK terms in float32, z = W^T x is off by at most e = CHUNK u sqrt(d) |x|; W is
    orthonormal up to `excess`, which adds at most that share of |x|. So the square of the remaining length r is off by
    at most 2 |x| e, and r by the smaller of 2 |x| e / r and sqrt(2 |x| e). x is a difference computed in float32, of
    the features and a shift: the errors include those of this and of the rounding of v to float32, 4 u |x| in all.
    """
    count = axes.columns.shape[1]
    z = sum((a @ b).double() for a, b in zip(x.split(CHUNK, 1), axes.columns.split(CHUNK), strict=True))
    square = squared_norms(x)
    length = square.sqrt() * (1 + 4 * U)
    error = (1.01 * (CHUNK + 2) * U * count**0.5 + axes.excess) * length
    rest = (square - z.square().sum(1)).clamp_(min=0).sqrt_()
    doubt = 2.1 * length * error
    errors = error + torch.minimum(doubt.sqrt(), doubt / rest.clamp(min=1e-300)) + 5 * U * length
    v = torch.cat([z, rest[:, None]], 1).float()
    norms = squared_norms(v) * (1 - shrinkage(2 * count + 8))  # the norms are two more terms of the product
    return Vectors(torch.cat([v, norms.float()[:, None], torch.ones(len(x), 1)], 1), errors, square)


def facing(values: torch.Tensor) -> torch.Tensor:
    """Return rows whose products with `Vectors.values` are lower bounds of squared distances: [n, d + 3] float32.

    values are those of the queries. The products are |v|^2 + |v'|^2 - 2 v.v' with shrunken norms. The error of a
    product of w terms in float32 is at most w u / (1 - w u) times the sum of their sizes, which is at most 2 (|v|^2 +
    |v'|^2).
    """
    return torch.cat([values[:, :-2] * -2, values[:, -1:], values[:, -2:-1]], 1)


def gathered_products(x: torch.Tensor, y: torch.Tensor, row: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the products of pairs of rows, x[row] and y[other]: [p] float32.

    row: [p] int64, ascending; other: [p] int64.
    """
    ends = torch.searchsorted(row, torch.arange(len(x) + 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        zeros, shape = torch.zeros(len(row)), (len(x), len(y))
        pattern = torch.sparse_csr_tensor(ends, other, zeros, shape, check_invariants=False)
    return torch.sparse.sampled_addmm(pattern, x, y.T, beta=0).values()


@torch.inference_mode()
def by_axes(  # noqa: PLR0915
    queries: Any, references: Any, k: int, self_excluded: bool, memory: int,
    progress: Callable[[list[tuple[int, int]]], Iterable[tuple[int, int]]], shift: torch.Tensor, axes: Axes,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k nearest references of each query exactly: (squared distances: [n, k] float64, indices: [n, k]).

    The arguments are those of `nearest`; shift: [D] is near the mean of the references, and axes are those of the
    features less the shift. A reference is left out only where its lower bound is larger than an upper bound of the
    distance to k references, the radius. The 2 k references with the least bounds on the axes give the first radius;
    the products of whole features, of the pairs within it alone, give bounds from both sides and a smaller radius; what
    is within that is ranked by distances in float64.
    """
    (n, dimensions), m = queries.shape, len(references)
    # A third of the memory for references, a quarter for bounds, and the rest for queries and pairs.
    columns = min(m, max(1, memory // (12 * dimensions)))
    panel = min(PANEL, -(-m // BLOCK) * BLOCK)
    rows = max(1, min(n, memory // (24 * dimensions), memory // (16 * panel)))

    @lru_cache(maxsize=1)
    def whole(start: int) -> torch.Tensor:
        return shifted(references, start, columns, shift)

    parts = [vectors(whole(start), axes) for start in range(0, m, columns)]
    short = Vectors(*(torch.cat(part) for part in zip(*parts, strict=True)))
    del parts
    furthest, slack = short.errors.amax(), shrinkage(dimensions)

    def bounds_of(row: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return lower and upper bounds of the squared distances of whole features: two [p] float64."""
        products = torch.empty(len(row))
        for start in range(0, m, columns):
            inside = ((other >= start) & (other < start + columns)).nonzero()[:, 0]
            if len(inside):
                products[inside] = gathered_products(x, whole(start), row[inside], other[inside] - start)
        norms = projected.squares[row] + short.squares[other]
        square, error = norms - 2 * products.double(), slack * norms + UNDERFLOW
        return square - error, square + error

    found_squares = torch.empty(n, k, dtype=torch.float64)
    found_indices = torch.empty(n, k, dtype=torch.int64)
    buffer, least = torch.empty(rows, panel), torch.empty(rows, panel // BLOCK, BLOCK // GROUP)
    for query, first in progress([(q, r) for q in range(0, n, rows) for r in range(0, m, panel)]):
        if first == 0:
            x = shifted(queries, query, rows, shift)
            size = len(x)
            projected = Vectors(*(part[query : query + size] for part in short)) if self_excluded else vectors(x, axes)
            turned, error = facing(projected.values), projected.errors + furthest
            closest = torch.full((size, k), float("inf"), dtype=torch.float64)
            index = torch.full((size, k), -1, dtype=torch.int64)
        for block, start in enumerate(range(first, min(m, first + panel), BLOCK)):
            y = short.values[start : start + BLOCK]
            bounds = buffer[:size, block * BLOCK : (block + 1) * BLOCK]
            torch.mm(turned, y.T, out=bounds[:, : len(y)])
            bounds[:, len(y) :] = float("inf")
            if self_excluded and -size < query - start < len(y):
                bounds[max(0, start - query) :, max(0, query - start) : len(y)].diagonal().fill_(float("inf"))
            if first == 0:
                least[:size, block] = bounds.unflatten(1, (GROUP, -1)).amin(1)
        radius = closest[:, -1].clone()
        if first == 0:
            minima = least[:size, : block + 1]
            members = buffer[:size].unflatten(1, (-1, GROUP, BLOCK // GROUP))
            near, group = minima.flatten(1).topk(min(2 * k, minima[0].numel()), 1, largest=False)
            row, rank = near.isfinite().nonzero(as_tuple=True)
            of, group = group[row, rank] // minima.shape[2], group[row, rank] % minima.shape[2]
            other = of * BLOCK + members[row, of, :, group].argmin(1) * minima.shape[2] + group
            # Where not all references are in memory, reading these few alone is faster.
            few = columns < m
            high = squares(queries, references, row + query, other, memory) if few else bounds_of(row, other)[1]
            radius = first_k(row, high, other, k, size)[0][:, -1]
        limit = (radius.sqrt() + error).square() * (1 + 2.0**-20) + UNDERFLOW
        limit = limit.clamp(max=torch.finfo(torch.float32).max).float()
        bounds = buffer[:size, : (block + 1) * BLOCK]
        pairs = torch.from_numpy(np.flatnonzero((bounds <= limit[:, None]).numpy()))  # torch's is several times slower
        for part in pairs.split(max(1, memory // 512)) if len(pairs) else ():  # split would yield one empty part
            row, other = part // bounds.shape[1], part % bounds.shape[1] + first
            low, high = bounds_of(row, other)
            near = low <= radius[row]
            row, other, low = row[near], other[near], low[near]
            radius = torch.minimum(radius, first_k(row, high[near], other, k, size)[0][:, -1])
            near = low <= radius[row]
            row, other = row[near], other[near]
            before, rank = (index >= 0).nonzero(as_tuple=True)
            square = torch.cat([closest[before, rank], squares(queries, references, row + query, other, memory)])
            closest, index = first_k(torch.cat([before, row]), square, torch.cat([index[before, rank], other]), k, size)
            radius = torch.minimum(radius, closest[:, -1])
        found_squares[query : query + size], found_indices[query : query + size] = closest, index
    return found_squares, found_indices
