"""Exact nearest neighbours against nested loops, at every block size, with copies, ties and hostile scales."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_digits

from attractors.distances import neighbours
from attractors.distances.axes import Axes, by_axes, cheapest_axes, facing, principal_axes, vectors, with_excess
from attractors.distances.neighbours import nearest
from attractors.distances.pairs import lower_bounds, shrunken_norms


def nested_loops(queries, references, k, self_excluded):
    """Every distance in float64, sorted by (distance, index)."""
    distances, indices = np.full((len(queries), k), np.inf), np.full((len(queries), k), -1)
    for i, query in enumerate(queries.astype(np.float64)):
        found = sorted((float(((reference.astype(np.float64) - query) ** 2).sum()), j)
                       for j, reference in enumerate(references) if not (self_excluded and i == j))[:k]
        for rank, (square, j) in enumerate(found):
            distances[i, rank], indices[i, rank] = square**0.5, j
    return distances, indices


def assert_exact(queries, references, k, self_excluded=False, memory=2**20):
    distances, indices = nearest(queries, references, k, self_excluded, memory)
    expected, order = nested_loops(queries, references, k, self_excluded)
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-6)
    squares, same = nearest(torch.from_numpy(queries), references, k, self_excluded, memory, squared=True)
    np.testing.assert_array_equal(same.numpy(), order)
    np.testing.assert_allclose(squares.numpy(), expected**2, rtol=1e-6)


@pytest.mark.parametrize("memory", [1, 2_000, 20_000, 10**9])
@pytest.mark.parametrize("self_excluded", [False, True])
def test_equals_nested_loops_at_every_block_size(memory, self_excluded):
    random = np.random.default_rng(0)
    references = random.standard_normal((60, 7)).astype(np.float32)
    queries = references if self_excluded else random.standard_normal((37, 7)).astype(np.float32)
    assert_exact(queries, references, 5, self_excluded, memory)


@pytest.mark.parametrize("self_excluded", [False, True])
def test_equals_nested_loops_among_exact_copies(self_excluded):
    """Three images, each there 30 times: more ties than candidates, so that every query is in doubt."""
    random = np.random.default_rng(1)
    originals = random.standard_normal((3, 50)).astype(np.float32)
    references = originals[random.integers(0, 3, 90)]
    queries = references if self_excluded else originals
    assert_exact(queries, references, 5, self_excluded)
    distances, _ = nearest(queries, references, 5, self_excluded)
    assert (distances == 0).all()


def test_equals_nested_loops_where_rounding_hides_the_distances():
    """Far from the origin, and closer to each other than float32 resolves in |x|^2 + |y|^2 - 2 x.y."""
    random = np.random.default_rng(2)
    for centres in (1, 40):  # a common shift cures the first; nothing but direct differences cures the second
        centre = 1000 * random.standard_normal((centres, 20))
        references = (centre[random.integers(0, centres, 200)] + 0.01 * random.standard_normal((200, 20))).astype("f4")
        assert_exact(references[:50], references, 5)
        assert_exact(references, references, 5, True)


@pytest.mark.parametrize(("n", "m", "k"), [(3, 2, 5), (1, 1, 1), (4, 16, 5), (4, 17, 5), (2, 5, 5)])
def test_fewer_references_than_neighbours_leave_infinity_and_minus_one(n, m, k):
    random = np.random.default_rng(3)
    references = random.standard_normal((m, 4)).astype(np.float32)
    assert_exact(random.standard_normal((n, 4)).astype(np.float32), references, k)
    assert_exact(references, references, k, self_excluded=True)


@given(st.integers(1, 24).flatmap(lambda m: arrays(np.int8, (m, 3), elements=st.integers(-2, 2))), st.integers(1, 6),
       st.booleans(), st.sampled_from([1, 3_000, 2**20]), st.sampled_from([1e-3, 1.0, 1e4]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_equals_nested_loops_on_small_grids_full_of_ties(grid, k, self_excluded, memory, scale):
    references = (grid * np.float32(scale)).astype(np.float32)
    assert_exact(references if self_excluded else references[::2], references, k, self_excluded, memory)


@given(st.integers(0, 2**32 - 1), st.integers(1, 2000), st.floats(0, 1e3), st.floats(1e-6, 1e3))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_bounds_are_below_the_squared_distances_in_float64(seed, dimensions, offset, spread):
    random = np.random.default_rng(seed)
    shift = (offset * random.standard_normal(dimensions)).astype(np.float32)
    x, y = ((shift + spread * random.standard_normal((n, dimensions))).astype(np.float32) for n in (4, 6))
    exact = ((x[:, None].astype(np.float64) - y[None]) ** 2).sum(2)
    shifted = [torch.from_numpy(part - shift) for part in (x, y)]
    for pair in ((torch.from_numpy(x), torch.from_numpy(y)), shifted):
        bounds = lower_bounds(*pair, *map(shrunken_norms, pair))
        assert (bounds.double().numpy() <= exact).all()


def test_bounds_are_below_the_squared_distance_for_the_worst_rounding():
    """x.y rounded up at every addition: 1 and 4,095 terms of 1.5 u, of which each rounds to 2 u."""
    x = torch.full((1, 4096), 1.0)
    y = torch.full((1, 4096), 1.5 * 2.0**-24)
    y[0, 0] = 1.0
    exact = (x.double() - y.double()).square().sum()
    bound = lower_bounds(x, y, shrunken_norms(x), shrunken_norms(y)).item()
    assert bound <= exact.item()
    assert bound == pytest.approx(exact.item(), rel=1e-2)


def any_axes(random, dimensions, count):
    return with_excess(torch.linalg.qr(torch.from_numpy(random.standard_normal((dimensions, count))))[0].float())


@given(st.integers(0, 2**32 - 1), st.integers(1, 2000), st.floats(0, 1e3), st.floats(1e-6, 1e3), st.integers(1, 40),
       st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_bounds_on_axes_are_below_the_distances_in_float64(seed, dimensions, offset, spread, count, skewed):
    """For any orthonormal columns, even ones that rounding has left far from orthonormal."""
    random = np.random.default_rng(seed)
    shift = (offset * random.standard_normal(dimensions)).astype(np.float32)
    features = [(shift + spread * random.standard_normal((n, dimensions))).astype(np.float32) for n in (4, 6)]
    exact = np.linalg.norm(features[0][:, None].astype(np.float64) - features[1][None], axis=2)
    axes = any_axes(random, dimensions, min(count, dimensions))
    if skewed:
        axes = with_excess(axes.columns * 1.001)
    for pair in (features, [part - shift for part in features]):
        x, y = (vectors(torch.from_numpy(part), axes) for part in pair)
        bounds = (facing(x.values) @ y.values.T).double().clamp(min=0).sqrt()
        assert (bounds <= torch.from_numpy(exact) + x.errors[:, None] + y.errors).all()


def found_by_axes(queries, references, k, self_excluded, memory, axes):
    shift = torch.from_numpy(references.mean(0))
    return by_axes(queries, references, k, self_excluded, memory, lambda blocks: blocks, shift, axes)


@given(st.integers(2, 24).flatmap(lambda m: arrays(np.int8, (m, 6), elements=st.integers(-2, 2))), st.integers(1, 6),
       st.booleans(), st.integers(1, 6), st.sampled_from([1e-3, 1.0, 1e4]), st.sampled_from([0, 1e-7, 1e-4]),
       st.sampled_from([1_000, 2**20]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_equals_nested_loops_among_near_ties_whatever_the_axes(grid, k, self_excluded, count, scale, apart, memory):
    """Points of a grid, moved by less than, as much as, or more than products in float32 resolve."""
    random = np.random.default_rng(0)
    references = ((grid + apart * random.standard_normal(grid.shape)) * scale).astype(np.float32)
    queries = references if self_excluded else references[::2]
    found = found_by_axes(queries, references, k, self_excluded, memory, any_axes(random, 6, count))
    expected, order = nested_loops(queries, references, k, self_excluded)
    np.testing.assert_array_equal(found[1].numpy(), order)
    np.testing.assert_allclose(found[0].sqrt().numpy(), expected, rtol=1e-12)


def test_ties_on_a_grid_are_told_apart_whatever_rounding_does_to_the_bounds():
    """Many equal distances, and five axes of six: a radius that is a little too small, or no allowance for rounding,
    loses one of them."""
    random = np.random.default_rng(0)
    for _ in range(20):
        grid = random.integers(-2, 3, (24, 6)).astype(np.float32)
        order = np.square(grid[:, None].astype(np.float64) - grid).sum(2).argsort(1, kind="stable")[:, :4]
        found = found_by_axes(grid, grid, 4, False, 2**20, any_axes(random, 6, 5))
        np.testing.assert_array_equal(found[1].numpy(), order)


def test_axes_that_are_not_orthonormal_cost_time_and_not_neighbours():
    """Axes a twentieth too long exaggerate distances by as much: what `excess` says of them must be allowed for."""
    random = np.random.default_rng(0)
    points = random.standard_normal((300, 6)).astype(np.float32)
    axes = with_excess(any_axes(random, 6, 6).columns * 1.05)
    found = found_by_axes(points, points, 4, True, 2**20, axes)
    np.testing.assert_array_equal(found[1].numpy(), brute_force(points, points, 4, True)[1])


def brute_force(queries, references, k, self_excluded):
    exact = np.stack([((references.astype(np.float64) - query) ** 2).sum(1) for query in queries])
    if self_excluded:
        np.fill_diagonal(exact, np.inf)
    order = exact.argsort(1, kind="stable")[:, :k]
    return np.take_along_axis(exact, order, 1) ** 0.5, order


@pytest.mark.parametrize("memory", [200_000, 2**29])
@pytest.mark.parametrize("self_excluded", [False, True])
def test_equals_brute_force_on_the_principal_axes_of_digits(self_excluded, memory):
    digits = (load_digits().data / 8 - 1).astype(np.float32)
    digits[700:710] = digits[3]  # copies, more than are looked at first
    queries = digits if self_excluded else digits[:100] + np.float32(0.01)
    axes = with_excess(principal_axes(torch.from_numpy(digits - digits.mean(0)), 13))
    distances, indices = found_by_axes(queries, digits, 5, self_excluded, memory, axes)
    expected, order = brute_force(queries, digits, 5, self_excluded)
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_allclose(distances.sqrt().numpy(), expected, rtol=1e-12)


def low_rank(random, count, dimensions=512, rank=12):
    """Features of which a few directions hold nearly everything, as they do for images: [count, D] float32."""
    directions = np.random.default_rng(9).standard_normal((rank, dimensions)) / dimensions**0.5
    features = 7 + 3 * random.standard_normal((count, rank)) @ directions
    return (features + 0.01 * random.standard_normal((count, dimensions))).astype(np.float32)


@pytest.mark.parametrize("self_excluded", [False, True])
def test_axes_are_used_where_they_pay_and_the_answer_is_that_of_brute_force(self_excluded, monkeypatch):
    random, used = np.random.default_rng(6), []
    references = low_rank(random, 700)
    references[500:520] = references[3]  # copies, and near-copies that float32 products cannot tell apart
    references[600:620] = references[4] + np.float32(1e-5) * random.standard_normal((20, 512)).astype(np.float32)
    queries = references if self_excluded else np.concatenate([low_rank(random, 600), references[:5]])
    monkeypatch.setattr(neighbours, "by_axes", lambda *given: used.append(given[-1]) or by_axes(*given))
    distances, indices = nearest(queries, references, 2, self_excluded)
    assert isinstance(used[0], Axes)
    expected, order = brute_force(queries, references, 2, self_excluded)
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-6)


def test_white_noise_has_no_useful_axes():
    noise = torch.from_numpy(np.random.default_rng(7).standard_normal((700, 512)).astype(np.float32))
    assert cheapest_axes(noise[:512], noise[512:576], noise[576:], 1e-3, 1.0, 128) is None


class Disk:
    """Rows that can only be read by slice and by index, with a count of how often each block was."""

    def __init__(self, array):
        self.array, self.shape, self.reads = array, array.shape, []

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        rows = self.array[index]
        self.reads.append(rows.nbytes)
        return rows


def test_memory_bounds_every_read_and_does_not_change_the_answer():
    random = np.random.default_rng(4)
    references, queries = (random.standard_normal((n, 100)).astype(np.float32) for n in (500, 300))
    whole = nearest(queries, references)
    disk = Disk(references)
    distances, indices = nearest(Disk(queries), disk, memory=100_000)
    assert torch.equal(distances, whole[0])
    assert torch.equal(indices, whole[1])
    assert max(disk.reads) <= 100_000 / 4


def test_products_of_lower_precision_are_refused():
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ValueError, match="full precision"):
            nearest(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32))
    finally:
        torch.set_float32_matmul_precision("highest")
