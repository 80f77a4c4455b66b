"""What holds for any input: properties of the pure functions, on inputs that hypothesis looks for."""

import math

import numpy as np
import pandas as pd
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from attractors.arrays import read_arrays, write_arrays
from attractors.data.images import as_images, foreign
from attractors.data.subsets import nested_order, size_grid, sizes
from attractors.denoisers.diffusion import Diffusion, forward_process, linear_betas
from attractors.denoisers.training import batch_indices
from attractors.distances.detection import TYPES, classify, fractions, selection, wilson
from attractors.distances.neighbours import nearest
from attractors.distances.thresholds import Valley, choose, copy_bound
from attractors.landscape.potential import circular_path
from attractors.landscape.summaries import log_volume
from attractors.results.run import crossings
from attractors.tables import read_csv, read_json, write_csv, write_json
from attractors.theory.associative_memory import energy, retrieved, score

quick = settings(max_examples=60, deadline=None)
distance = st.floats(0, 1e6, width=32)
distances = arrays(np.float32, st.integers(1, 40), elements=distance)
pairs = st.integers(1, 40).flatmap(lambda n: st.tuples(*[arrays(np.float32, n, elements=distance)] * 2))
ascending = st.lists(st.integers(2, 10**6), min_size=1, max_size=12, unique=True).map(sorted)
small = st.integers(-8, 8)


@quick
@given(st.integers(1, 2000), st.integers(0, 2**31), st.data())
def test_subsets_are_nested_and_lose_no_image(count, seed, data):
    order = nested_order(count, seed)
    assert sorted(order) == list(range(count))
    small, large = sorted(data.draw(st.tuples(st.integers(0, count), st.integers(0, count))))
    assert set(order[:small]) <= set(order[:large])
    np.testing.assert_array_equal(order, nested_order(count, seed))


@quick
@given(st.lists(st.integers(2, 200_000), min_size=3, max_size=3, unique=True).map(sorted))
def test_the_grid_of_sizes_ascends_through_its_points(points):
    a, b, total = points
    grid = size_grid(a, b, total)
    assert grid == sorted(set(grid))
    assert {2, a, b, total} <= set(grid)
    assert len(grid) <= 38
    assert sizes({"a": a, "b": b, "total": total}) == grid == sizes(grid)


@quick
@given(pairs, distance, distance)
def test_every_sample_has_one_type_whatever_the_thresholds(both, delta_m, delta_s):
    to_s, within = both
    codes = classify(to_s, within, delta_m, delta_s)
    assert set(codes) <= set(range(len(TYPES)))
    assert math.isclose(fractions(codes).sum(), 1)
    np.testing.assert_array_equal(codes == 0, to_s <= np.float32(delta_m))
    chosen = selection(codes, to_s, within, limit=40, rare=0)
    assert sorted(number for numbers in chosen.values() for number in numbers) == list(range(len(codes)))


@quick
@given(pairs, distance, distance, distance, distance)
def test_larger_thresholds_make_no_sample_less_memorized_nor_fewer_spurious(both, m, more, s, wider):
    codes = classify(*both, m, s)
    memorized = classify(*both, max(m, more), s) == 0
    assert memorized[codes == 0].all()
    generalized = classify(*both, max(m, more), max(s, wider)) == 2
    assert (codes[generalized] == 2).all()
    spurious = classify(*both, m, max(s, wider)) == 1
    assert spurious[codes == 1].all()


@quick
@given(pairs, distance, distance, st.integers(-20, 20))
def test_types_do_not_depend_on_the_unit_of_distance(both, delta_m, delta_s, power):
    unit = np.float32(2.0**power)
    scaled = classify(both[0] * unit, both[1] * unit, delta_m * float(unit), delta_s * float(unit))
    np.testing.assert_array_equal(scaled, classify(*both, delta_m, delta_s))


@quick
@given(arrays(np.float32, st.integers(1, 30), elements=st.floats(2**-10, 2**10, width=32)), st.integers(-10, 10),
       ascending)
def test_thresholds_scale_with_the_unit_of_distance(spacing, power, grid):
    unit = 2.0**power
    assert copy_bound(spacing * np.float32(unit)) == copy_bound(spacing) * unit

    def thresholds(unit):
        valleys = [Valley(unit * (1 + k % 7), 0, 0, 0.5, 0.001) if k % 3 else None for k in grid]
        return [threshold.value for threshold in choose(valleys, [4.0 * unit] * len(grid))]

    assert thresholds(unit) == [value * unit for value in thresholds(1)]
    assert all(value <= 4 for value in thresholds(1))


@quick
@given(st.integers(1, 10**6), st.data())
def test_wilsons_interval_holds_the_share_and_mirrors(count, data):
    share = data.draw(st.integers(0, count)) / count
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    mirrored = wilson(1 - share, count)
    np.testing.assert_allclose([1 - mirrored[1], 1 - mirrored[0]], [low, high], atol=1e-9)


@quick
@given(ascending, st.data())
def test_a_crossing_lies_between_two_sizes_that_it_separates(grid, data):
    shares = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(grid), max_size=len(grid))))
    found = crossings(np.array(grid), shares[None])[0]
    falls = [i for i in range(len(grid) - 1) if shares[i] > 0.5 >= shares[i + 1]]
    assert np.isnan(found) == (not falls)
    if falls:
        assert grid[falls[0]] * (1 - 1e-12) <= found <= grid[falls[0] + 1] * (1 + 1e-12)
        doubled = crossings(2 * np.array(grid), shares[None])[0]
        np.testing.assert_allclose(doubled, 2 * found)


cloud = array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(
    lambda shape: arrays(np.float32, shape, elements=small.map(float))
)


@quick
@given(cloud, st.integers(1, 4), st.integers(-6, 6), st.randoms(use_true_random=False))
def test_neighbours_scale_with_the_unit_and_do_not_depend_on_the_order_of_images(x, k, power, random):
    found, _ = nearest(x, x, k, True)
    scaled, _ = nearest(x * np.float32(2.0**power), x * np.float32(2.0**power), k, True)
    np.testing.assert_allclose(scaled, found * 2.0**power, rtol=1e-6)
    order = list(range(len(x)))
    random.shuffle(order)
    shuffled, _ = nearest(x[order], x[order], k, True)
    np.testing.assert_array_equal(shuffled, found[order])
    fewer, _ = nearest(x, x[:-1], k) if len(x) > 1 else (torch.full_like(found, torch.inf), None)
    assert (nearest(x, x, k)[0] <= fewer).all()


@quick
@given(st.integers(1, 30), st.integers(1, 50), st.integers(0, 60), st.integers(1, 40), st.integers(1, 40),
       st.integers(0, 9))
def test_batches_do_not_depend_on_where_training_was_interrupted(count, batch, start, first, second, seed):
    parts = [batch_indices(a, b, count, batch, seed)
             for a, b in ((start, start + first), (start + first, start + first + second))]
    np.testing.assert_array_equal(np.concatenate(parts),
                                  batch_indices(start, start + first + second, count, batch, seed))
    whole = batch_indices(0, count, count, batch, seed).reshape(batch, count)
    assert (np.sort(whole, 1) == np.arange(count)).all()
    assert count < 9 or batch < 2 or len({tuple(each) for each in whole.tolist()}) > 1  # each pass in another order


@quick
@given(arrays(np.float64, 6, elements=st.floats(-3, 3)), arrays(np.float64, 6, elements=st.floats(-3, 3)),
       st.floats(0, math.pi / 2))
def test_the_circular_path_joins_its_ends_and_keeps_the_length_of_orthogonal_ones(x_1, x_2, alpha):
    np.testing.assert_allclose(circular_path(x_1, x_2, 0)[0], x_1)
    np.testing.assert_allclose(circular_path(x_1, x_2, math.pi / 2)[0], x_2, atol=1e-12)
    x, v = circular_path(x_1, x_2, alpha)
    np.testing.assert_allclose(x @ x + v @ v, x_1 @ x_1 + x_2 @ x_2, atol=1e-9)
    step = 1e-6
    np.testing.assert_allclose((circular_path(x_1, x_2, alpha + step)[0] - x) / step, v, atol=1e-4)


@quick
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.integers(1, 5000))
def test_volumes_scale_with_the_power_of_the_dimension(radius, factor, dimensions):
    pair = log_volume([radius, radius * factor], dimensions)
    expected = dimensions * math.log(factor)
    assert math.isclose((pair[1] - pair[0]).item(), expected, rel_tol=1e-9, abs_tol=1e-8 * dimensions)


@quick
@given(st.integers(2, 300), st.integers(0, 10**6), st.integers(0, 2**31),
       st.sampled_from(["noise", "velocity", "image"]))
def test_a_network_that_knows_the_target_recovers_noise_and_image(steps, t, seed, prediction):
    t = torch.tensor([t % steps])
    random = torch.Generator().manual_seed(seed)
    x_0, noise = torch.randn(2, 1, 1, 2, 2, generator=random, dtype=torch.float64)

    model = Diffusion(lambda x, t: model.target(x_0, noise, t), linear_betas(steps), prediction)
    x_t = forward_process(x_0, noise, t, model.alpha_bar)
    torch.testing.assert_close(model.noise_prediction(x_t, t), noise, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.denoised(x_t, t), x_0, rtol=1e-4, atol=1e-4)


@quick
@given(arrays(np.float64, (3, 2), elements=st.floats(-2, 2)), arrays(np.float64, (4, 2), elements=st.floats(-2, 2)),
       st.floats(0.1, 50), arrays(np.float64, 2, elements=st.floats(-5, 5)))
def test_the_energy_moves_with_the_memories_and_the_score_points_to_what_is_retrieved(x, memories, beta, shift):
    moved = energy(x + shift, memories + shift, beta)
    np.testing.assert_allclose(moved, energy(x, memories, beta), rtol=1e-8, atol=1e-8)
    inside = retrieved(x, memories, beta)
    assert (inside <= memories.max(0) + 1e-9).all()
    assert (inside >= memories.min(0) - 1e-9).all()
    pull, towards = score(x, memories, beta), inside - x
    lengths = [np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (pull, towards)]
    np.testing.assert_allclose(pull * lengths[1], towards * lengths[0], rtol=1e-6, atol=1e-8)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=10,
)
names = st.text(st.characters(exclude_categories=("Cs",)), max_size=8).filter(lambda name: name != "__metadata__")
dtypes = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.int8, np.bool_])
tables = st.dictionaries(names, dtypes.flatmap(lambda dtype: arrays(dtype, array_shapes(min_side=0, max_side=5))),
                         min_size=1, max_size=4)


@quick
@given(tables, st.dictionaries(st.from_regex("[a-z_]{1,8}", fullmatch=True), json_values, max_size=3))
def test_arrays_and_their_record_come_back_to_the_bit(tmp_path_factory, content, record):
    record = {name: value for name, value in record.items() if name not in ("path", "arrays")}
    path = tmp_path_factory.mktemp("records") / "x"
    write_arrays(path, content, **record)
    first = path.read_bytes()
    back, found = read_arrays(path)
    assert found == record
    assert back.keys() == content.keys()
    for name, array in content.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes()
    write_arrays(path, content, **record)
    assert path.read_bytes() == first
    write_json(path, record)
    assert read_json(path) == record


@quick
@given(st.lists(st.tuples(st.integers(-(10**6), 10**6), st.floats(-1e12, 1e12)), min_size=1, max_size=20))
def test_tables_come_back_to_six_digits(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("tables") / "x.csv"
    write_csv(path, pd.DataFrame(rows, columns=["K", "value"]))
    back = read_csv(path, "K", "value")
    assert back.K.tolist() == [k for k, _ in rows]
    np.testing.assert_allclose(back.value, [value for _, value in rows], rtol=1e-5)


@quick
@given(arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(3), st.integers(4, 6), st.integers(4, 6))))
def test_images_of_bytes_come_back_from_minus_one_to_one(images):
    found = as_images(images, "x")
    assert np.abs(found).max() <= 1
    np.testing.assert_array_equal(np.rint((found + 1) * 127.5).astype(np.uint8), images)
    np.testing.assert_array_equal(foreign(images.transpose(0, 2, 3, 1), "x", "bytes").array, found)


@quick
@given(arrays(np.float32, (2, 1, 3, 3), elements=st.floats(-(2.0**-126), 2.0**-126, width=32)))
def test_denormal_images_are_images(images):
    np.testing.assert_array_equal(as_images(images, "x"), images)
    found, _ = nearest(images.reshape(2, -1), images.reshape(2, -1), 1, True)
    assert np.isfinite(found).all()
