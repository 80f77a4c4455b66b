"""Groups of spurious samples: against planted ones, in both kinds of distance, and as the stage reads a run."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from builders import lpips_file, neighbours_file, refused, run
from scipy.spatial.distance import pdist, squareform

from attractors.arrays import array_hash, write_arrays
from attractors.data.images import read_images
from attractors.data.training_sets import training_images
from attractors.distances.clusters import describe, euclidean, groups, perceptual
from attractors.distances.contrast import contrast, sharpness
from attractors.distances.detection import classify
from attractors.stages.clusters import main
from attractors.tables import read_json, write_csv


@pytest.fixture
def planted():
    """Three tight groups of 5, 4 and 2 images, and 6 images apart from everything: [17, 1, 4, 4], and their groups."""
    random = np.random.default_rng(0)
    centres = random.uniform(-1, 1, (9, 1, 4, 4)).astype(np.float32)
    labels = np.repeat(np.arange(9), [5, 4, 2, 1, 1, 1, 1, 1, 1])
    order = random.permutation(len(labels))
    images = centres[labels] + random.normal(0, 0.01, (len(labels), 1, 4, 4)).astype(np.float32)
    return images[order], labels[order]


def test_groups_are_the_planted_ones_and_every_pair_in_one_is_within_the_diameter(planted):
    images, labels = planted
    pairs = pdist(images.reshape(len(images), -1))
    found = groups(pairs, 0.3)
    assert sorted(map(tuple, found)) == sorted(tuple(np.flatnonzero(labels == kind)) for kind in (0, 1))
    square = squareform(pairs)
    assert all(square[i, j] <= 0.3 for members in found for i, j in itertools.combinations(members, 2))
    assert groups(np.empty(0), 1) == []
    # The square of a distance, as LPIPS is one, has the same groups at the square of the diameter.
    assert [list(members) for members in groups(pairs**2, 0.09)] == [list(members) for members in found]


def test_the_table_of_groups_equals_loops_over_pairs_of_images(planted):
    images, _ = planted
    training = np.random.default_rng(1).uniform(-1, 1, (7, 1, 4, 4)).astype(np.float32)
    to_training = euclidean(images, training).min(1)
    pairs = pdist(images.reshape(len(images), -1))
    clusters = groups(pairs, 0.3)
    table = describe(clusters, pairs, images, to_training, training, euclidean)
    assert table["size"].tolist() == [5, 4]
    for row, members in zip(table.itertuples(), sorted(clusters, key=len, reverse=True), strict=True):
        part = images[members].reshape(len(members), -1).astype(np.float64)
        centre = images[members].mean(0).ravel()
        assert row.diameter == pytest.approx(max(np.linalg.norm(x - y) for x in part for y in part), rel=1e-6)
        assert row.centre_to_training == pytest.approx(min(np.linalg.norm(centre - y.ravel()) for y in training))
        assert row.closest_to_training == pytest.approx(
            min(np.linalg.norm(x - y.ravel()) for x in part for y in training)
        )
    assert describe([], pairs, images, to_training, training, euclidean).empty


@pytest.fixture
def alex(tmp_path):
    return lpips_file(tmp_path / "alex.safetensors")


def test_perceptual_distances_of_all_pairs_are_those_of_the_embedding_pair_by_pair(alex):
    from attractors.distances.lpips_embedding import read_embedding

    random = np.random.default_rng(3)
    x, y = (random.uniform(-1, 1, (n, 3, 32, 32)).astype(np.float32) for n in (3, 4))
    found, embedding = perceptual(alex, "alex")(x, y), read_embedding(alex)
    for i, j in itertools.product(range(3), range(4)):
        pair = (torch.from_numpy(part[None]) for part in (x[i], y[j]))
        assert found[i, j] == pytest.approx(embedding.distance(*pair).item(), rel=1e-4)
    with pytest.raises(ValueError, match="weights of alex; --distance lpips_vgg needs those of vgg"):
        perceptual(alex, "vgg")


def write_run(folder, images, distances, metric, delta_m, delta_s, *others):
    """A run of one K whose synthetic set is `images`, classified with the given thresholds.

    others: the synthetic sets of further replicates, each of which has a training set of its own.
    """
    parts = []
    for number, samples in enumerate((images, *others)):
        training = np.random.default_rng([4, number]).uniform(-1, 1, (4, *images.shape[1:])).astype(np.float32)
        within = distances(samples, samples) + np.diag(np.full(len(samples), np.inf))
        found = distances(samples, training).min(1).astype(np.float32), within.min(1).astype(np.float32)
        parts.append(classify(*found, delta_m, delta_s))
        name = neighbours_file(folder, 4, number, *found, distance=metric, training_sha256=array_hash(training))
        write_arrays(folder / f"data/synthetic/x/{name}.safetensors", {"images": np.clip(samples, -1, 1)})
        write_arrays(folder / f"data/subsets/d{name[1:]}.safetensors", {"images": training})
    codes = np.concatenate(parts)
    write_arrays(folder / "data/types/x/4.safetensors", {"codes": codes}, size=4, delta_m=delta_m, delta_s=delta_s)
    shares = np.bincount(codes, minlength=3) / len(codes)
    table = pd.DataFrame([{"K": 4, **dict(zip(("memorized", "spurious", "generalized"), shares, strict=True))}])
    write_csv(folder / "metrics/fractions/x.csv", table)
    return ["x", "--dataset", "d", "--data", folder / "data", "--metrics", folder / "metrics",
            "--out", folder / "found.json"]


def test_the_stage_finds_the_planted_groups_in_pixels(planted, tmp_path):
    options = write_run(tmp_path, planted[0], euclidean, "l2", 0.0, 0.3)
    run(main, *options)
    found = read_json(tmp_path / "found.json")
    assert (found["clusters"], found["samples_in_clusters"], found["spurious"]) == (2, 9, 11)
    assert found["clusters_farther_from_training_than_wide"] == 2
    run(main, *options, "--limit", 3)
    assert read_json(tmp_path / "found.json")["samples_in_clusters"] <= 3
    (tmp_path / "data/types/x/4.safetensors").unlink()
    assert "types/x/4.safetensors: no such file" in refused(main, *options)


def test_the_stage_finds_groups_in_lpips_whose_thresholds_are_far_below_distances_in_pixels(alex, tmp_path):
    random = np.random.default_rng(5)
    centres = random.uniform(-0.9, 0.9, (4, 3, 32, 32))
    images = (centres[[0, 0, 0, 0, 1, 1, 1, 2, 3]] + random.normal(0, 0.003, (9, 3, 32, 32))).astype(np.float32)
    distances = perceptual(alex, "alex")
    between = distances(images, images)
    delta_s = float(between[:4, :4].max() * 2)
    assert delta_s < between[0, 4] / 4
    assert delta_s < euclidean(images, images)[0, 1] / 4  # in pixels, at this diameter, no two would be a group
    options = write_run(tmp_path, images, distances, "lpips_alex", 0.0, delta_s)
    assert "--lpips: needed for distances by lpips_alex" in refused(main, *options, code=2)
    run(main, *options, "--lpips", alex)
    assert [row["size"] for row in read_json(tmp_path / "found.json")["largest"]] == [4, 3]


def test_groups_of_spurious_samples_are_held_against_generalized_ones_that_repeat_each_other_by_chance(tmp_path):
    """Forty groups of five among spurious samples; generalized ones are drawn uniformly and gather by chance alone."""
    random = np.random.default_rng(6)
    planted = np.repeat(random.uniform(-1, 1, (40, 1, 2, 2)), 5, 0) + random.normal(0, 0.001, (200, 1, 2, 2))
    alone = random.uniform(-1, 1, (700, 1, 2, 2))
    images = random.permutation(np.concatenate([planted, alone])).astype(np.float32)
    options = write_run(tmp_path, images, euclidean, "l2", 0.0, 0.02)
    run(main, *options)
    (row,) = read_json(tmp_path / "found.json")["replicates"]
    assert row["spurious"] == row["generalized"] == pytest.approx(200, abs=3)  # a few of the others are as close
    assert row["share"] > 0.97
    assert row["generalized_diameter"] > 0.02  # nothing within delta_s is generalized
    assert row["generalized_share"] < 0.3
    # The diameter is that within which the two hundred nearest pairs lie, and so the chance is not none by definition.
    assert row["generalized_in_clusters"] > 0


def test_averages_of_images_are_less_sharp_and_nearer_to_the_mean_by_the_root_of_their_number():
    random = np.random.default_rng(1)
    training = random.normal(size=(400, 1, 16, 16)).astype(np.float32)
    alike = contrast(random.normal(size=(300, 1, 16, 16)), training)
    averages = contrast(training.reshape(100, 4, 1, 16, 16).mean(1), training)
    for key in ("sharpness", "from_mean"):
        assert alike[key] == pytest.approx(1, abs=0.02)
        assert averages[key] == pytest.approx(0.5, abs=0.02)


def test_sharpness_is_that_of_a_step_counted_by_hand():
    image = np.zeros((1, 1, 4, 4))
    image[..., 2:] = 2  # one step of 2 in each of four rows of three differences; no step from row to row
    assert sharpness(image) == pytest.approx([np.sqrt((4 * 4 / 12 + 0) / 2)])


def test_groups_of_replicates_are_found_apart_and_held_against_their_own_training_sets(planted, tmp_path):
    """The same samples twice would be groups of twice as many if replicates were clustered together."""
    images, labels = planted
    options = write_run(tmp_path, images, euclidean, "l2", 0.0, 0.3, images[labels > 0], images)
    run(main, *options)
    found = read_json(tmp_path / "found.json")
    assert [row["replicate"] for row in found["replicates"]] == [0, 1, 2]
    sizes = [[row["size"] for row in found["largest"] if row["replicate"] == number] for number in range(3)]
    assert sizes == [[5, 4], [4], [5, 4]]
    assert (found["clusters"], found["samples_in_clusters"]) == (5, 22)
    for row in found["largest"]:
        name = f"d-{row['replicate']}" if row["replicate"] else "d"
        training = read_images(tmp_path / f"data/subsets/{name}.safetensors")
        centre = images[labels == (0 if row["size"] == 5 else 1)].mean(0, keepdims=True)
        assert row["centre_to_training"] == pytest.approx(euclidean(centre, training).min(), abs=0.02)
    (tmp_path / "data/subsets/d-1.safetensors").rename(tmp_path / "data/subsets/d-3.safetensors")
    assert "no order of d begins with the training set of replicate 1" in refused(main, *options)


def test_the_order_of_a_replicate_is_the_one_that_its_samples_were_measured_against(tmp_path):
    random = np.random.default_rng(7)
    common, own = (random.uniform(-1, 1, (9, 1, 2, 2)).astype(np.float32) for _ in range(2))
    write_arrays(tmp_path / "d.safetensors", {"images": common})
    write_arrays(tmp_path / "d-2.safetensors", {"images": own})
    for number, hashed, expected in ((2, own, own), (2, common, common), (1, common, common), (0, common, common)):
        found = training_images(tmp_path, "d", number, 4, array_hash(hashed[:4]))
        np.testing.assert_array_equal(found, expected[:4])
    np.testing.assert_array_equal(training_images(tmp_path, "d", 2, 4, None), own[:4])
    for number, hashed in ((1, own[:4]), (2, own[:5]), (2, own[1:5])):
        with pytest.raises(ValueError, match="no order of d begins with the training set of replicate"):
            training_images(tmp_path, "d", number, 4, array_hash(hashed))
