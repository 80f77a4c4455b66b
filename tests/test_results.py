"""The results of a run, as every stage and figure reads them, against hand-made files."""

import numpy as np
import pandas as pd
import pytest

from attractors.arrays import write_arrays
from attractors.results.run import Run, fractions_below, half_memorized, halving, scaled_spurious, wide
from attractors.tables import write_csv


def write(folder, name, table):
    write_csv(folder / f"{name}.csv", pd.DataFrame(table))


def test_tables_are_found_by_kind_and_name_and_missing_ones_are_none_or_named(tmp_path):
    write(tmp_path / "basin", "digits", {"K": [2, 64], "type": ["training"] * 2, "x": [1, 2]})
    run = Run(tmp_path)
    assert run.table("basin", "digits", "K", "x").x.tolist() == [1, 2]
    assert run.table("basin", "other") is None
    assert run.control("basin", "digits") is None
    write(tmp_path / "basin", "digits-exact", {"K": [2], "type": ["training"], "x": [5]})
    assert run.control("basin", "digits").x.tolist() == [5]
    for name, columns, words in (("other", (), "basin/other.csv: no such file"),
                                 ("digits", ("y",), "basin/digits.csv: no column y"),
                                 ("digits", ("type",), "column type holds more than numbers")):
        with pytest.raises(ValueError, match=words):
            run.needed("basin", name, *columns)
    (tmp_path / "basin" / "bad.csv").write_bytes(b"a\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"basin/bad\.csv: not a table"):
        run.needed("basin", "bad")


def test_the_peak_is_the_first_largest_spurious_fraction_of_each_sweep_that_was_classified(tmp_path):
    table = {"K": [2, 16, 64, 256], "memorized": [1, 0.8, 0.2, 0], "spurious": [0, 0.2, 0.2, 0.1]}
    table["generalized"] = [0, 0, 0.6, 0.9]
    write(tmp_path / "fractions", "a", table)
    run = Run(tmp_path, ("a", "b"))
    assert list(run.peaks) == ["a"]
    assert (run.peaks["a"].K, run.peaks["a"].name) == (16, 1)
    table = pd.DataFrame(table)
    assert halving(table) == (16, 64)
    assert half_memorized(table) == pytest.approx(np.exp((np.log(16) + np.log(64)) / 2))
    assert np.isnan(half_memorized(table[:2]))
    with pytest.raises(ValueError, match=r"fractions/b\.csv: no such file"):
        run.peak("b")


def test_codes_are_those_of_the_run_and_of_nothing_else(tmp_path):
    run, folder = Run(tmp_path, data=tmp_path), tmp_path / "types" / "a"
    for size in (1024, 8, 64):
        write_arrays(folder / f"{size}.safetensors", {"codes": np.array([0, 2, 1], np.int8)}, size=size)
    assert run.sizes("a") == [8, 64, 1024]
    assert run.codes("a", 8).tolist() == [0, 2, 1]
    for codes, size, words in ((np.array([0, 3], np.int8), 8, "not the types of samples"),
                               (np.array([0, -1], np.int8), 8, "not the types of samples"),
                               (np.array([0, 1]), 8, "not the types of samples"),
                               (np.array([], np.int8), 8, "not the types of samples"),
                               (np.array([0, 1], np.int8), 9, "types of K = 9, not of 8")):
        write_arrays(folder / "8.safetensors", {"codes": codes}, size=size)
        with pytest.raises(ValueError, match="8.safetensors: " + words):
            run.codes("a", 8)
    with pytest.raises(ValueError, match="no types"):
        run.sizes("b")


def test_fractions_below_any_pair_of_edges_are_those_of_counting_samples():
    random = np.random.default_rng(0)
    pairs, edges = random.integers(0, 6, (300, 2)), np.arange(7)
    counts = np.histogram2d(*pairs.T, [edges, edges])[0].astype(int)
    memorized, spurious = fractions_below(counts)
    for m in edges:
        assert memorized[m] == pytest.approx((pairs[:, 0] < m).mean())
        for s in edges:
            assert spurious[m, s] == pytest.approx(((pairs[:, 0] >= m) & (pairs[:, 1] < s)).mean())
    arrays = {"log10_edges": np.log10(edges + 1), "counts": counts[None]}
    limits = pd.DataFrame({"K": [4], "delta_m": [2.0], "delta_s": [3.0]})
    for scale in (1, 1.5, 2):  # edges 10^e - 1 of the bins: at scale 1 they are 1 and 2
        m, s = (np.abs(arrays["log10_edges"] - np.log10(scale * delta)).argmin() for delta in (2, 3))
        share = ((pairs[:, 0] >= m) & (pairs[:, 1] < s)).mean()
        assert scaled_spurious(arrays, limits, scale)[0] == pytest.approx(share)


def test_wide_table_has_one_row_a_size_and_gaps_where_a_type_was_left_out():
    types = ["memorized", "training", "memorized", "spurious", "training"]
    table = pd.DataFrame({"K": [2, 2, 64, 64, 64], "type": types, "x": [0, 1, 0, 1, 2]})
    found = wide(table, ["x"])
    assert found.columns.tolist() == ["K", "memorized_x", "spurious_x", "training_x"]
    np.testing.assert_array_equal(found.to_numpy(), [[2, 0, np.nan, 1], [64, 0, 1, 2]])


def test_files_of_replicates_that_a_sweep_no_longer_has_are_left_out(tmp_path):
    for name in ("16", "16-1", "16-2", "64"):
        write_arrays(tmp_path / f"data/basin/x/{name}.safetensors", {"numbers": np.arange(3)})
    run = Run(tmp_path / "metrics", data=tmp_path / "data")
    assert list(run.files("basin", "x", 16)) == [0, 1, 2]
    rows = [{"K": 16, "replicate": 0}, {"K": 16, "replicate": 1}, {"K": 64, "replicate": 2}]
    write_csv(tmp_path / "metrics/replicates/fractions/x.csv", pd.DataFrame(rows))
    assert list(run.files("basin", "x", 16)) == [0, 1]
