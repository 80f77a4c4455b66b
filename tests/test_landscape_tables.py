"""The tables that the figures of the energy landscape read, against hand-made ones."""

import click
import numpy as np
import pandas as pd
import pytest

from attractors.figures.tables import read_control, read_runs, wide


def write(folder, size, types):
    folder.mkdir(exist_ok=True)
    pd.DataFrame({"K": size, "type": types, "x": range(len(types))}).to_csv(folder / f"{size}.csv", index=False)


def test_runs_are_sorted_by_size_not_by_name_and_the_control_is_found_beside_them(tmp_path):
    for size in (1024, 8, 64):
        write(tmp_path / "digits", size, ["training"])
    assert read_runs(tmp_path / "digits").K.tolist() == [8, 64, 1024]
    assert read_control(tmp_path / "digits") is None
    write(tmp_path / "digits-exact", 2, ["training"])
    assert read_control(tmp_path / "digits").K.tolist() == [2]
    (tmp_path / "empty").mkdir()
    with pytest.raises(click.BadParameter, match="no tables"):
        read_runs(tmp_path / "empty")


def test_wide_table_has_one_row_a_size_and_gaps_where_a_type_was_left_out(tmp_path):
    write(tmp_path / "digits", 2, ["memorized", "training"])
    write(tmp_path / "digits", 64, ["memorized", "spurious", "training"])
    found = wide(read_runs(tmp_path / "digits"), ["x"])
    assert found.columns.tolist() == ["K", "memorized_x", "spurious_x", "training_x"]
    np.testing.assert_array_equal(found.to_numpy(), [[2, 0, np.nan, 1], [64, 0, 1, 2]])
