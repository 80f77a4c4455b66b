"""The stage classify: types of all samples, and thresholds that are numbers, auto or mappings in params.yaml."""

import numpy as np
import pytest
from builders import called, neighbours_file

from attractors.arrays import read_arrays
from attractors.distances.detection import classify
from attractors.stages.classify import main
from attractors.tables import read_csv


@pytest.fixture
def run(tmp_path):
    """A function: the content of params.yaml to what classify prints and writes for K = 4 and 16."""
    found = {}
    for size in (4, 16):
        random = np.random.default_rng(size)
        copies = random.random(600) < 0.5
        distances = np.where(copies, 0.1, 1.5) * np.exp(0.2 * random.normal(size=(2, 600)))
        found[size] = distances.astype(np.float32)
        neighbours_file(tmp_path, size, 0, *found[size])
    (tmp_path / "digits.yaml").write_text("dataset: digits\nsizes: [4, 16]\n")

    def perform(params, *options):
        (tmp_path / "params.yaml").write_text(params)
        return called(main, tmp_path / "data/neighbours/x", "--sweep", tmp_path / "digits.yaml", "--params",
                      tmp_path / "params.yaml", "--types", tmp_path / "types", "--out", tmp_path / "metrics", *options)

    perform.folder, perform.distances = tmp_path, found
    return perform


def limits(run):
    table = read_csv(run.folder / "metrics/thresholds/digits.csv")
    return table.delta_m.tolist(), table.delta_m_source.tolist()


def test_types_of_every_sample_are_written_with_the_thresholds_to_the_last_bit(run):
    result = run("delta_m: auto\ndelta_s: 0.123456789012\n")
    assert result.exit_code == 0, result.output
    for size, (to_training, within) in run.distances.items():
        arrays, record = read_arrays(run.folder / f"types/{size}.safetensors")
        assert arrays["codes"].dtype == np.int8
        expected = classify(to_training, within, record["delta_m"], record["delta_s"])
        np.testing.assert_array_equal(arrays["codes"], expected)
        assert (record["size"], record["count"], record["delta_s"]) == (size, 600, 0.123456789012)
        shares = read_csv(run.folder / "metrics/fractions/digits.csv").set_index("K").loc[size]
        assert shares.memorized == pytest.approx((expected == 0).mean(), rel=1e-5)


def test_a_number_at_one_k_leaves_what_is_chosen_at_the_others_as_it_is(run):
    assert run("delta_m: auto\n").exit_code == 0
    automatic, sources = limits(run)
    assert "valley" in sources
    assert run("delta_m: {digits: {16: 0.03}}\n").exit_code == 0
    assert limits(run) == ([automatic[0], 0.03], [sources[0], "given"])
    assert run("delta_m: {default: 0.03}\n").exit_code == 0
    assert limits(run) == ([0.03, 0.03], ["given", "given"])
    assert run("delta_m: {default: 0.03}\n", "--delta-m", "0.5").exit_code == 0
    assert limits(run)[0] == [0.5, 0.5]


def test_a_wrong_mapping_is_one_line_before_anything_is_written(run):
    result = run("delta_m: {digit: 1}")
    assert result.exit_code == 2
    assert "delta_m names no sweep 'digit'; did you mean digits?" in result.output
    assert result.output.count("Error") == 1
    assert not (run.folder / "metrics").exists()


def test_a_name_that_leaves_the_folder_of_tables_is_refused(run):
    result = run("delta_m: 1\n", "--name", "../elsewhere")
    assert (result.exit_code, "--name: '../elsewhere' is no name" in result.output) == (2, True)
    assert sorted(path.name for path in run.folder.iterdir()) == ["data", "digits.yaml", "params.yaml"]


def test_the_ratio_of_distances_takes_the_place_of_delta_m(run):
    random = np.random.default_rng(0)
    pairs = np.sort(random.uniform(0.1, 2, (600, 2)), axis=1).astype(np.float32)
    expected = [0 if one / other < 1 / 3 else 1 for one, other in pairs.tolist()]
    assert 0 < np.mean(expected) < 1
    for distance, told in (("l2", pairs), ("lpips_alex", pairs**2)):  # LPIPS is the square of a distance
        for size in (4, 16):
            neighbours_file(run.folder, size, 0, told, np.full(600, 0.2), distance=distance)
        result = run("delta_m: {digits: {16: ratio}}\ndelta_s: 0.3\n")
        assert result.exit_code == 0, result.output
        assert read_arrays(run.folder / "types/16.safetensors")[0]["codes"].tolist() == expected
        values, sources = limits(run)
        assert sources[1] == "ratio" and sources[0] != "ratio"
        assert (told[:, 0] <= values[1] * (1 + 1e-5)).sum() == expected.count(0)


def test_the_ratio_needs_two_neighbours(run):
    result = run("delta_m: ratio\n")
    assert result.exit_code == 1 and result.output.strip().endswith(
        "needs the distances to two different images of S (neighbours --k 2)"
    )
    assert run("delta_s: ratio\n").exit_code == 2


@pytest.mark.parametrize(("value", "said"), [("0.01", True), ("50", True), ("0.4", False), ("auto", False)])
def test_a_threshold_for_another_kind_of_distance_is_named_with_the_distances_that_there_are(run, value, said):
    result = run(f"delta_m: {value}\ndelta_s: {{digits: {{4: 0.01, 16: 0.4}}}}\n")  # one of two sizes: no line
    assert result.exit_code == 0, result.output
    assert (f"delta_m={value} is of another scale than the distances of digits: 1%, half" in result.stderr) == said
    assert "delta_s" not in result.stderr
    middle = np.median(np.concatenate([pair[0] for pair in run.distances.values()]))
    assert not said or f", {middle:.2g} and " in result.stderr
