"""The installable library: its requirements, its command and its public names."""

import tomllib

import pytest
from conftest import ROOT

import attractors

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def listed(path):
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("-r")]


def test_requirements_are_the_same_in_both_lists():
    assert PROJECT["dependencies"] == listed(ROOT / "requirements.txt")
    files = {path.stem.removeprefix("requirements-"): path for path in ROOT.glob("requirements-*.txt")}
    assert PROJECT["optional-dependencies"] == {name: listed(path) for name, path in files.items()}


def test_public_names_are_those_of_their_modules():
    from attractors.distances.neighbours import nearest

    assert attractors.nearest is nearest
    for name in attractors.__all__:
        assert getattr(attractors, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = attractors.nothing
