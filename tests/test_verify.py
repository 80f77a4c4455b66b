"""Bytes that a disk got wrong are noticed: in the cache, in outputs, in the state that training goes on from."""

import hashlib
import os

import builders
import pytest
import torch
from dvc.repo import Repo

from attractors.cli.checkout import check_checkout
from attractors.commands import verify
from attractors.denoisers.checkpoints import Checkpoint
from attractors.stages import train


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout with one output, its object in the cache, and a folder of two files as another."""
    Repo.init(str(tmp_path), no_scm=True).close()
    monkeypatch.setattr(verify, "ROOT", tmp_path)

    def store(content, suffix=""):
        name = hashlib.md5(content).hexdigest()
        path = tmp_path / ".dvc/cache/files/md5" / name[:2] / (name[2:] + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name + suffix

    (tmp_path / "folder").mkdir()
    (tmp_path / "model").write_bytes(b"model")
    parts = [{"md5": store(part), "relpath": part.decode()} for part in (b"a", b"b")]
    for part in parts:
        (tmp_path / "folder" / part["relpath"]).write_text(part["relpath"])
    listing = store(repr(parts).replace("'", '"').encode(), ".dir")
    (tmp_path / "models").mkdir()
    for lock, path, name in (("models/dvc.lock", "model", store(b"model")), ("dvc.lock", "folder", listing)):
        out = f"[{{path: {path}, md5: {name}}}]"
        (tmp_path / lock).write_text(f"schema: '2.0'\nstages:\n  {path}:\n    cmd: x\n    outs: {out}\n")
    return tmp_path


def run(*arguments):
    return builders.called(verify, *arguments)


def test_what_is_whole_is_left_alone(repository):
    result = run("--remove")
    assert result.exit_code == 0
    assert "7 files, 0 damaged" in result.output


@pytest.mark.parametrize("name", ["model", "folder/b", ".dvc/cache"])
def test_a_flipped_bit_is_found_and_removed_whatever_the_time_of_the_file(repository, name):
    path = repository / name
    path = next(path.rglob("*.dir")) if path.is_dir() else path
    before = path.stat()
    flip(path, 0)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run().exit_code == 1
    assert path.exists()
    result = run("--remove")
    assert result.exit_code == 1
    assert f"{path}: not the bytes that its hash says, removed" in result.output
    assert not path.exists()
    assert run().exit_code == 0


def test_the_cache_is_where_dvc_says_and_an_empty_one_is_an_error(repository):
    elsewhere = repository.parent / "larger disk"
    (repository / ".dvc" / "cache").rename(elsewhere)
    result = run()
    assert result.exit_code == 1
    assert "an empty cache" in result.output
    with Repo(str(repository)) as repo, repo.config.edit("local") as settings:
        settings["cache"]["dir"] = str(elsewhere)
    result = run()
    assert result.exit_code == 0, result.output
    assert "7 files, 0 damaged" in result.output
    flip(next(elsewhere.glob("files/md5/*/*.dir")), 0)
    assert run().exit_code == 1


def test_a_merge_conflict_and_a_missing_git_are_one_line_that_says_what_to_do(repository):
    lock = repository / "dvc.lock"
    lock.write_text(f"<<<<<<< HEAD\n{lock.read_text()}=======\n>>>>>>> one\n")
    result = run()
    assert result.exit_code == 1
    assert "dvc.lock: holds the marks of a merge conflict; take a side" in result.output
    lock.unlink()
    with Repo(str(repository)) as repo, repo.config.edit("repo") as settings:
        settings["core"]["no_scm"] = False
    result = run()
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1
    assert "not a git repository, which DVC needs: git init" in result.output


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users with numbers")
def test_a_user_without_a_name_or_a_home_is_told_what_to_set(repository, monkeypatch):
    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("USER", "HOME"):
        result = run()
        assert result.exit_code == 1
        assert result.output.endswith(f"no ${name}, which DVC needs: export {name}=...\n")
        monkeypatch.setenv(name, str(repository))
    assert run().exit_code == 0


def test_a_path_that_this_locale_cannot_read_is_one_line_that_says_what_to_set(tmp_path):
    with pytest.raises(ValueError, match=r"M\\udcc3\\udca9moire.*: letters that .* set PYTHONUTF8=1"):
        check_checkout(tmp_path / os.fsencode("Mémoire").decode("ascii", "surrogateescape"))


@pytest.mark.parametrize(("name", "files"), [("dvc.lock", 5), ("models/dvc.lock", 6)])
@pytest.mark.parametrize("content", ["stages: [\n", "schema: '2.0'\nstages: {train: 3}\n", "a list\n"])
def test_a_lock_that_is_damaged_is_one_line_and_an_empty_one_names_no_file(repository, content, name, files):
    lock = repository / name
    lock.write_text(content)
    result = run()
    assert result.exit_code == 1
    assert f"{lock}: not as DVC writes it (" in result.output.splitlines()[-1]
    lock.write_text("")
    result = run()
    assert result.exit_code == 0
    assert f"{files} files, 0 damaged" in result.output


def test_training_starts_anew_from_a_state_with_one_wrong_bit_anywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("attractors.denoisers.checkpoints.CHECKPOINT_SECONDS", 0)
    state = {"step": 7, "weights": torch.arange(500.0)}
    checkpoint = Checkpoint(tmp_path / "model", train.__file__, torch.device("cpu"), seed=1)
    checkpoint.save(state)
    whole = checkpoint.path.read_bytes()
    assert torch.equal(checkpoint.load("cpu")["weights"], state["weights"])
    for at in range(0, len(whole), 37):
        flip(checkpoint.path, at)
        found = checkpoint.load("cpu")  # a bit that carries nothing, such as padding, may be wrong
        assert found is None or (found["step"] == 7 and torch.equal(found["weights"], state["weights"]))
        checkpoint.path.write_bytes(whole)
    assert capsys.readouterr().err.count("starting anew") > 40
    numbers = whole.find(state["weights"].numpy().tobytes()[100:140])
    flip(checkpoint.path, numbers)
    assert checkpoint.load("cpu") is None
