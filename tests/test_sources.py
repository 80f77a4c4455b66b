"""What a stage's code is: edits that can change a result change its hash, and no others do."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from attractors.stages.sources import closure, main, substance  # noqa: E402

CODE = '''"""About."""

import math  # for pi


def area(r):
    """Of a disc.

    r: radius
    """
    text = """two

    lines  """
    return math.pi * r**2, text, "# no comment", f"{r}  #"
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("About.", "Another\n\nstory."),
        ("  # for pi", ""),
        ("    r: radius\n", ""),
        ("\n\n\ndef", "\n# here\n\n\n\n\ndef"),
        ("import math", "import math    "),
    ],
)
def test_comments_docstrings_and_space_between_statements_are_no_substance(old, new):
    assert old in CODE
    assert substance(CODE.replace(old, new)) == substance(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("r**2", "r**3"),
        ("two\n\n", "two\n"),
        ("two\n\n", "two  \n\n"),
        ('lines  """', 'lines """'),
        ("# no comment", "# a comment"),
        ("}  #", "} #"),
        ("    return", "  return"),
    ],
)
def test_code_and_the_inside_of_strings_are_substance(old, new):
    assert old in CODE
    try:
        changed = substance(CODE.replace(old, new))
    except IndentationError:
        return
    assert changed != substance(CODE)


def test_substance_still_compiles_to_the_same_code():
    for path in (ROOT / "src").rglob("*.py"):
        compile(substance(path.read_text()) + "\n", path, "exec")


def test_closure_follows_imports_of_imports_and_imports_inside_functions(tmp_path):
    package = tmp_path / "lib"
    package.mkdir()
    (tmp_path / "run.py").write_text("from lib import a\nimport os\n")
    (package / "a.py").write_text("def f():\n    from lib.b import g\n    return g\n")
    (package / "b.py").write_text("import lib.a\n")
    (package / "c.py").write_text("")
    names = [path.relative_to(tmp_path).as_posix() for path in closure(tmp_path / "run.py", tmp_path)]
    assert names == ["lib/a.py", "lib/b.py", "run.py"]


def test_a_file_for_every_command_names_what_it_imports(tmp_path):
    result = CliRunner().invoke(main, ["--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    needed = {dep for stage in stages.values() for dep in stage.get("do", stage)["deps"] if "/sources/" in dep}
    assert {f"data/sources/{path.name}" for path in tmp_path.glob("*.txt")} >= needed
    names = [line.split("  ")[1] for line in (tmp_path / "classify.txt").read_text().splitlines()]
    assert "attractors/distances/detection.py" in names
    assert "attractors/denoisers/networks.py" not in names  # classify starts without torch
