"""What a stage's code is: edits that can change a result change its hash, and no others do."""

import json
import re

import pytest
from builders import run
from conftest import pipeline

from attractors.cli import group
from attractors.code import closure, code_hash
from attractors.commands import scale
from attractors.stages import inputs
from attractors.stages.inputs import main

CODE = '''"""About."""

import math  # for pi


def area(r, s=None, t=0):
    """Of a disc.

    r: radius
    """
    text = """two

    lines  """
    return math.pi * r**2, text, "# no comment", f"{r}  #"


def empty():
    """Nothing."""
'''


@pytest.fixture
def hashed(tmp_path):
    """A function: the hash of a source, given as text or bytes."""

    def of(source):
        number = len(list(tmp_path.iterdir()))
        path = tmp_path / f"{number}.py"
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        return code_hash(path)

    return of


@pytest.mark.parametrize(("old", "new"), [
    ("About.", "Another\n\nstory."),
    ("  # for pi", ""),
    ("    r: radius\n", ""),
    ("\n\n\ndef", "\n# here\n\n\n\n\ndef"),
    ("import math", "import math    "),
    ("(r, s=None, t=0)", "(\n    r,\n    s=None,\n    t=0,\n)"),
    ("Nothing.", "Nothing at all."),
])
def test_comments_docstrings_and_layout_change_no_hash(hashed, old, new):
    assert old in CODE
    assert hashed(CODE.replace(old, new)) == hashed(CODE)


@pytest.mark.parametrize(("old", "new"), [
    ("r**2", "r**3"),
    ("two\n\n", "two\n"),
    ("two\n\n", "two  \n\n"),
    ('lines  """', 'lines """'),
    ("# no comment", "# a comment"),
    ("}  #", "} #"),
    ("s=None", "s=False"),
    ("t=0", "t=0.0"),
    ("t=0", "t=False"),
    ("math.pi *", "math.pi +"),
    ("text, ", ""),
])
def test_code_and_the_inside_of_strings_change_the_hash(hashed, old, new):
    assert old in CODE
    assert hashed(CODE.replace(old, new)) != hashed(CODE)


def test_line_ends_and_a_byte_order_mark_change_no_hash(hashed):
    assert hashed(CODE.replace("\n", "\r\n")) == hashed(CODE)
    assert hashed(b"\xef\xbb\xbf" + CODE.encode()) == hashed(CODE)


@pytest.mark.parametrize("source", [b"x = (\n", b"a = 1\n\tb = 2\n", b"x = '\xff'\n", b"x = 1\0\n"])
def test_a_file_that_does_not_parse_is_one_line_that_names_it(hashed, source):
    with pytest.raises(ValueError, match=r"0\.py(:\d+)?: does not parse \(.+\)$") as raised:
        hashed(source)
    assert "\n" not in str(raised.value)


def names(script, root):
    return [path.relative_to(root).as_posix() for path in closure([script], root)]


def test_closure_follows_imports_of_imports_and_imports_inside_functions(tmp_path):
    package = tmp_path / "lib"
    package.mkdir()
    (tmp_path / "run.py").write_text("from lib import a\nimport os\n")
    (package / "a.py").write_text("def f():\n    from lib.b import g\n    return g\n")
    (package / "b.py").write_text("import lib.a\n")
    (package / "c.py").write_text("")
    assert names(tmp_path / "run.py", tmp_path) == ["lib/a.py", "lib/b.py", "run.py"]


def test_closure_leaves_out_what_only_type_checkers_import(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "run.py").write_text("if TYPE_CHECKING:\n    import a\nelse:\n    import b\nif True:\n    import c\n")
    assert names(tmp_path / "run.py", tmp_path) == ["b.py", "c.py", "run.py"]


def test_closure_has_the_packages_around_a_module_and_follows_relative_imports(tmp_path):
    deep = tmp_path / "lib" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "run.py").write_text("import lib.deep.a\n")
    (tmp_path / "lib" / "__init__.py").write_text("from lib.first import x\n")
    (tmp_path / "lib" / "first.py").write_text("x = 1\n")
    (tmp_path / "lib" / "b.py").write_text("")
    (tmp_path / "lib" / "c.py").write_text("")
    (deep / "__init__.py").write_text("")
    (deep / "a.py").write_text("from .. import b\nfrom ..c import *\n")
    whole = ["lib/__init__.py", "lib/b.py", "lib/c.py", "lib/deep/__init__.py", "lib/deep/a.py", "lib/first.py"]
    assert names(tmp_path / "run.py", tmp_path) == [*whole, "run.py"]
    assert names(deep / "a.py", tmp_path) == whole


def test_hidden_files_are_no_commands(tmp_path, monkeypatch):
    figures = tmp_path / "figures"
    figures.mkdir()
    (figures / "mine.py").touch()
    (figures / ".#mine.py").symlink_to("nowhere")
    (figures / "._mine.py").write_bytes(b"\x00\x05\x16\x07\xff")
    monkeypatch.setattr(group, "PACKAGE", tmp_path)
    assert [name for name in group.modules.__wrapped__() if name.startswith("figure_")] == ["figure_mine"]


def test_a_file_for_every_stage_has_its_settings_and_names_what_it_imports(tmp_path):
    run(main, "--out", tmp_path)
    needed = {dep for stage in pipeline().values() for dep in stage.get("do", stage)["deps"] if "/inputs/" in dep}
    needed = {re.sub(r"\$\{[\w.]+\}/", "digits/", dep).removeprefix("data/inputs/") for dep in needed}
    absent = {name for name in needed if not (tmp_path / name).is_file()}
    along = {f"digits/{name}.json" for name in ("train_snapshots", "training_time", "phase")}
    assert absent == along | {f"digits/sd_{name}.json" for name in ("generate", "stability", "curvature")}
    files = json.loads((tmp_path / "digits/classify.json").read_text())
    assert files["settings"]["delta_m"] == "auto"
    assert "attractors/distances/detection.py" in files["code"]
    assert "attractors/distances/__init__.py" in files["code"]
    assert "attractors/denoisers/networks.py" not in files["code"]  # classify starts without torch
    report = json.loads((tmp_path / "report.json").read_text())["code"]
    assert {"attractors/figures/basin.py", "attractors/report/page.css"} <= report.keys()


def test_the_readers_of_released_models_are_part_of_the_sweeps_that_name_a_release_alone(tmp_path, monkeypatch):
    content = scale.runs_of(["digits", "released-first"])
    (tmp_path / "runs.yaml").write_text("".join(f"{line}\n" for line in scale.lines_of(content)))
    for name in ("params.yaml", "sweeps"):
        (tmp_path / name).symlink_to(inputs.ROOT / name)
    monkeypatch.setattr(inputs, "ROOT", tmp_path)
    run(main, "--out", tmp_path / "out")
    readers = {"attractors/denoisers/released.py", "attractors/denoisers/foreign.py"}
    for stage, held in {"released-first/train": readers, "digits/train": set(), "released-first/sample": set()}.items():
        code = json.loads((tmp_path / f"out/{stage}.json").read_text())["code"].keys()
        assert code & readers == held
        assert f"attractors/stages/{stage.rpartition('/')[2]}.py" in code
