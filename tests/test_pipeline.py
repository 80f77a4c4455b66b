"""dvc.yaml says what is true: the dependencies it lists are the files a stage reads, and runs.yaml is current."""

import ast
import re
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))


def load(name):
    return YAML(typ="safe").load(ROOT / name)


def imported_files(script):
    """The files under src/ that `script` imports, itself and those they import included."""
    found, queue = set(), [Path(script)]
    while queue:
        path = queue.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                for folder in (Path("src"), path.parent):
                    candidate = folder / (name.replace(".", "/") + ".py")
                    if (ROOT / candidate).is_file():
                        queue.append(candidate)
    return {str(path) for path in found}


def stages():
    return list(_stages())


def _stages():
    for name, stage in load("dvc.yaml")["stages"].items():
        yield name, stage.get("do", stage)


@pytest.mark.parametrize(("name", "stage"), stages(), ids=[name for name, _ in stages()])
def test_dependencies_are_the_source_files_a_stage_imports(name, stage):
    script = re.search(r"python (src/\S+\.py)", stage["cmd"]).group(1)
    listed = {dep for dep in stage["deps"] if dep.startswith("src/") and dep.endswith(".py")}
    assert listed == imported_files(script)


@pytest.mark.parametrize(("name", "stage"), stages(), ids=[name for name, _ in stages()])
def test_files_named_in_a_command_are_dependencies_or_outputs(name, stage):
    outs = {
        next(iter(o)) if isinstance(o, dict) else o for key in ("outs", "metrics", "plots") for o in stage.get(key, [])
    }
    params = {next(iter(p)) for p in stage.get("params", []) if isinstance(p, dict)}
    known = set(stage["deps"]) | outs | params
    for word in stage["cmd"].split():
        if re.match(r"(data|models|metrics|plots|prompts|sweeps)/", word):
            assert any(k == word or k.startswith((word + "/", word + ".")) for k in known), word


def test_runs_yaml_is_what_the_laptop_scale_writes():
    from scale import runs_of

    assert load("runs.yaml") == runs_of(["laptop"])


def test_parameters_of_a_stage_exist_where_dvc_looks_for_them():
    from scale import runs_of

    params, runs = load("params.yaml"), runs_of(["laptop", "stable_diffusion"])
    for name, stage in stages():
        for entry in stage.get("params", []):
            if isinstance(entry, str):
                assert entry in params, (name, entry)
                continue
            ((path, sections),) = entry.items()
            names = runs["learned"] if stage.get("foreach") == "${learned}" else runs["sweeps"]
            files = ["runs.yaml"] if path == "runs.yaml" else [f"sweeps/{sweep}.yaml" for sweep in names]
            if path.startswith("prompts/"):
                files = [f"prompts/{study}.yaml" for study in runs["studies"]]
            for file in files:
                assert {section.split(".")[0] for section in sections} <= set(load(file)), (name, file)
