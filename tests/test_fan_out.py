"""The command fan_out: the scheduler with what it needs of this project."""

import subprocess

import pytest
from builders import python, refused, run
from conftest import pipeline
from small_scale import git

from attractors.cli.checkout import check_checkout
from attractors.commands import fan_out


def test_the_scheduler_runs_here_with_the_first_stage_of_this_project(monkeypatch):
    calls = []
    monkeypatch.setattr(fan_out.scheduling, "callback", lambda **options: calls.append(options))
    run(fan_out, "train", "--jobs", 3)
    (options,) = calls
    assert options["stages"] == ("train",) and options["jobs"] == 3
    assert set(options["first"]) <= set(pipeline())
    assert options.keys() == {option.name for option in fan_out.scheduling.params}


@pytest.mark.parametrize("content", ["runs: {a: {sweep: x; rm -rf /}}\n", "[]\n"])
def test_words_that_reach_a_shell_are_read_before_anything_runs(monkeypatch, tmp_path, content):
    monkeypatch.setattr(fan_out, "ROOT", tmp_path)
    monkeypatch.setattr(fan_out, "check_checkout", lambda root: None)
    monkeypatch.setattr(fan_out.scheduling, "callback", lambda **options: pytest.fail("ran"))
    (tmp_path / "runs.yaml").write_text(content)
    assert "runs.yaml" in refused(fan_out, code=2)


def test_without_the_environment_the_first_stage_says_how_to_get_it(tmp_path):
    command = pipeline()["inputs"]["cmd"]
    ended = subprocess.run(command, shell=True, cwd=tmp_path, env={"PATH": str(tmp_path)},  # noqa: S602
                           capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == "Where python or a package of it was not found: . .venv/bin/activate\n"


def test_a_git_with_extensions_that_dvc_cannot_read_is_one_line(tmp_path):
    git(tmp_path, "init", "-q")
    check_checkout(tmp_path)
    git(tmp_path, "config", "core.repositoryformatversion", "1")
    git(tmp_path, "config", "extensions.partialclone", "origin")
    with pytest.raises(ValueError, match=r"git config --unset extensions.partialclone$"):
        check_checkout(tmp_path)


MISSING = """
import builtins, os, signal
for name in ("fork", "forkpty", "sched_getaffinity", "getuid", "killpg", "setsid"):
    if hasattr(os, name):
        delattr(os, name)
del signal.SIGHUP
import importlib.util, pkgutil
import attractors, scheduling
real = builtins.__import__
own = tuple({rooms!r})
def lacking(name, globals=None, *rest):
    if name in ("fcntl", "resource", "pwd", "grp", "termios") and (globals or {{}}).get("__name__", "").startswith(own):
        raise ImportError(name)
    return real(name, globals, *rest)
builtins.__import__ = lacking
from attractors.cli.group import modules
import importlib
for name, (module, _) in modules().items():
    importlib.import_module(module)
for found in pkgutil.iter_modules(scheduling.__path__, "scheduling."):
    importlib.import_module(found.name)
print("imported", len(modules()))
"""


def test_every_command_is_there_without_what_some_systems_lack():
    assert "imported" in python(MISSING.format(rooms=["attractors", "scheduling"]))
