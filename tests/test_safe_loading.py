"""No file can run code: every loader here is its safe form, by ruff where it has a rule, and by a search."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT

# Calls that run what is in a file, and what makes them safe: the argument that must be there, or None: nothing does.
LOADERS = {"torch.load": ("weights_only", True), "numpy.load": ("allow_pickle", False),
           "numpy.lib.format.read_array": ("allow_pickle", False), "torch.hub.load": None, "pickle.load": None,
           "pickle.loads": None, "pickle.Unpickler": None, "pickle._Unpickler": None, "marshal.loads": None,
           "marshal.load": None, "shelve.open": None, "dill.load": None, "joblib.load": None, "cloudpickle.load": None,
           "pandas.read_pickle": None, "yaml.unsafe_load": None, "eval": None, "exec": None, "os.system": None,
           "os.popen": None}
ALIASES = {"np": "numpy", "pd": "pandas"}
# The one subclass that admits numpy's three names and no others; test_foreign.py and test_datasets.py feed it bombs.
EXCEPTIONS = {("src/attractors/data/unpickling.py", "pickle._Unpickler")}


def unsafe(source):
    """(line, call) of every loader in a program that is not in its safe form; bases of classes count as calls."""
    for node in ast.walk(ast.parse(source)):
        targets = [node.func] if isinstance(node, ast.Call) else node.bases if isinstance(node, ast.ClassDef) else []
        for target in targets:
            first, _, rest = ast.unparse(target).partition(".")
            name = ".".join(filter(None, [ALIASES.get(first, first), rest]))
            if name in LOADERS:
                safe = LOADERS[name]
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in getattr(node, "keywords", [])}
                if safe is None or given.get(safe[0]) != str(safe[1]):
                    yield node.lineno, name
            if any(
                part.arg == "shell" and ast.unparse(part.value) != "False" for part in getattr(node, "keywords", [])
            ):
                yield node.lineno, f"{name}(shell=...)"
            kinds = [ast.unparse(keyword.value) for keyword in getattr(node, "keywords", []) if keyword.arg == "typ"]
            if name == "YAML" and set(kinds) - {"'safe'", "'rt'"}:  # rt, the default, builds no objects either
                yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize("folder", ["src", "benchmarks"])
def test_no_program_here_loads_a_file_in_a_way_that_could_run_it(folder):
    found = {
        (str(path.relative_to(ROOT)), call): line
        for path in (ROOT / folder).rglob("*.py")
        for line, call in unsafe(path.read_text())
    }
    assert {key: line for key, line in found.items() if key not in EXCEPTIONS} == {}


UNSAFE = ["import torch\ntorch.load('x')", "import torch\ntorch.load('x', weights_only=False)",
          "import numpy as np\nnp.load('x')", "import numpy as np\nnp.load('x', allow_pickle=True)",
          "import pickle\npickle.loads(b'x')", "import pickle\nclass U(pickle.Unpickler): ...",
          "import pandas as pd\npd.read_pickle('x')", "import subprocess\nsubprocess.run('x', shell=True)", "eval('1')",
          "from ruamel.yaml import YAML\nYAML(typ='unsafe')"]
SAFE = ["import torch\ntorch.load('x', weights_only=True)", "import numpy as np\nnp.load('x', allow_pickle=False)",
        "from ruamel.yaml import YAML\nYAML(typ='safe')\nYAML()"]


def test_the_search_finds_every_unsafe_form_and_no_safe_one():
    assert [source for source in UNSAFE if not list(unsafe(source))] == []
    assert [source for source in SAFE if list(unsafe(source))] == []


@pytest.mark.parametrize(("source", "rule"), [
    ("import pickle\n\npickle.load(open('x', 'rb'))\n", "S301"),
    ("import yaml\n\nyaml.load('x')\n", "S506"),
    ("import pathlib\n\npathlib.Path('x').read_text()\n", "PLW1514"),
])
def test_the_project_lint_rules_name_unsafe_loads_and_files_read_in_the_locales_encoding(source, rule):
    command = [sys.executable, "-m", "ruff", "check", "--config", ROOT / "pyproject.toml", "--output-format", "json",
               "-"]
    result = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert rule in result.stdout


def test_every_text_file_is_read_and_written_in_utf_8_whatever_the_locale():
    lines = [line for path in (ROOT / "src").rglob("*.py") for line in path.read_text("utf-8").splitlines()]
    assert [line for line in lines if re.search(r"text=True|read_text\(\)|write_text\([^\"']*\)$", line)] == []
