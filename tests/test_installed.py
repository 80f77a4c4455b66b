"""The installable library: its requirements, its command and its public names."""

import tomllib

import changed
import pytest
from builders import python
from conftest import ROOT

import attractors

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def listed(path):
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("-r")]


def test_requirements_are_the_same_in_both_lists():
    assert PROJECT["dependencies"] == listed(ROOT / "requirements.txt")


@pytest.mark.parametrize(
    ("names", "tests"),
    [(["tests/test_b.py"], ["b"]), (["src/attractors/data/images.py"], ["a", "b"]), (["src/scheduling/dag.py"], ["c"]),
     (["src/attractors/data/image.py", "dvc.yaml"], []), ([], [])],
)
def test_make_check_runs_the_tests_that_name_what_changed(names, tests):
    texts = {"a": "from attractors.data import (\n    archives,\n    images,\n)",
             "b": "import attractors.data.images as x", "c": "from scheduling.dag import order"}
    files = {f"tests/test_{name}.py": text for name, text in texts.items()}
    assert changed.tests_of(names, files) == [f"tests/test_{name}.py" for name in tests]


def test_public_names_are_those_of_their_modules():
    from attractors.distances.neighbours import nearest

    assert attractors.nearest is nearest
    for name in attractors.__all__:
        assert getattr(attractors, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = attractors.nothing


SCHEDULING = "import pkgutil, importlib, scheduling\n" \
    "for each in pkgutil.iter_modules(scheduling.__path__, 'scheduling.'): importlib.import_module(each.name)"


@pytest.mark.parametrize(("code", "absent"), [
    ("import attractors.cli.sweep, attractors.commands.scale", {"torch"}),
    ("import attractors.stages.clusters", {"torch"}),  # of distances in pixels
    ("import attractors.figures.registry as registry; registry.figures()", {"torch", "matplotlib"}),
    (SCHEDULING, {"torch", "attractors"}),  # it knows nothing of the project around it
])
def test_what_needs_less_imports_less(code, absent):
    names = "{name.split('.')[0] for name in sys.modules}"
    assert python(f"import sys; {code}\nprint({absent!r} & {names})") == "set()\n"
