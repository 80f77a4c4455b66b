"""What a killed run left: rows of an array, and states that are found by what decides a result."""

import numpy as np
import pytest
import torch
from builders import killed, model_file, processed
from conftest import ROOT

from attractors.arrays import read_arrays, rows_header, write_arrays
from attractors.denoisers import checkpoints
from attractors.denoisers.checkpoints import Rows, resume_path
from attractors.files import file_hash
from attractors.stages import sample, train

CPU = torch.device("cpu")
RECORD = {"seed": 3, "note": '\u00e4 "quoted" text', "nothing": None}


def images(count=7):
    return np.random.default_rng(0).standard_normal((count, 1, 2, 3)).astype(np.float32)


def rows(folder, block=2, **changes):
    return Rows(folder / "r.safetensors", sample.__file__, CPU, "images", (7, 1, 2, 3), RECORD | changes, block)


def test_the_header_of_rows_is_the_one_that_the_library_writes(tmp_path):
    for record in ({}, RECORD, {"x": "y" * 1000}):
        write_arrays(tmp_path / "whole", {"images": images()}, **record)
        assert rows_header("images", (7, 1, 2, 3), record) + images().tobytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("torn", [0, 1, 23, 47, 48])
def test_rows_go_on_after_the_last_whole_block_and_end_with_the_bytes_of_the_whole(tmp_path, torn):
    """24 bytes a row, 48 a block; `torn`: bytes of the third block that were written before the kill."""
    write_arrays(tmp_path / "whole", {"images": images()}, **RECORD)
    first = rows(tmp_path)
    for start in (0, 2):
        first.append(images()[start : start + 2])
    first.file.write(images().tobytes()[96 : 96 + torn])
    first.file.close()
    assert not (tmp_path / "r.safetensors").exists()
    assert rows(tmp_path, seed=4).done == rows(tmp_path, block=3).done == 0  # another recipe begins anew
    again = rows(tmp_path)
    assert again.done == 4 + 2 * (torn == 48)
    for start in range(again.done, 7, 2):
        again.append(images()[start : start + 2])
    again.finish()
    assert (tmp_path / "r.safetensors").read_bytes() == (tmp_path / "whole").read_bytes()


def test_rows_all_written_but_not_named_are_only_named(tmp_path):
    first = rows(tmp_path)
    first.append(images())
    first.file.close()
    again = rows(tmp_path)
    assert again.done == 7
    again.finish()
    np.testing.assert_array_equal(read_arrays(tmp_path / "r.safetensors")[0]["images"], images())


def test_a_state_is_found_by_what_decides_the_result_and_by_nothing_else(tmp_path, monkeypatch):
    def path(script=train, device="cpu", **identity):
        return resume_path(tmp_path / "m", script.__file__, torch.device(device), ".pt", **identity)

    assert path(size=4) == path(size=4) != path(size=5)
    assert path(script=train) != path(script=sample)
    assert path(device="cuda") == path(device="cuda:0") != path(device="cpu")
    asked = []
    monkeypatch.setattr(checkpoints, "code_hashes", lambda *arguments: asked.append(arguments) or {"a.py": "0"})
    before = path()
    monkeypatch.setattr(checkpoints, "code_hashes", lambda *_: {"a.py": "1"})
    assert path() != before  # the notion of the code is the one by which DVC runs stages again
    assert [(script.name, root) for [script], root in asked] == [("train.py", ROOT / "src")]


def test_sampling_killed_three_times_ends_with_the_bytes_of_an_undisturbed_run(tmp_path):
    model_file(tmp_path / "m.safetensors", {"name": "mlp", "width": 32, "blocks": 1}, (1, 4, 4), 50, {"steps": 300},
               change=lambda model: torch.nn.init.normal_(model.network.output.weight,
                                                          generator=torch.Generator().manual_seed(0)))
    options = ["--model", tmp_path / "m.safetensors", "--batch", 10, "--device", "cpu", "--out"]
    processed("sample", *options, tmp_path / "whole" / "s.safetensors")
    out = tmp_path / "killed" / "s.safetensors"
    for _ in range(3):
        killed(out.parent / ".resume", "sample", *options, out)
        assert not out.exists()
    processed("sample", *options, out)
    assert file_hash(out) == file_hash(tmp_path / "whole" / "s.safetensors")
    assert list((out.parent / ".resume").iterdir()) == []
