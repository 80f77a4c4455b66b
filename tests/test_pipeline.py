"""The files dvc.yaml say what is true: the dependencies they list are what a stage reads, and runs.yaml is current."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, pipeline
from ruamel.yaml import YAML
from small_scale import checkout, git

from attractors.cli.group import main
from attractors.cli.sweep import ALONE, ALONG, STUDY, SWEEP

FOLDERS = {"${runs}": "${item.sweep}/", "${snapshots}": "${item.sweep}/", "${pairs}": "${item.sweep}/",
           "${prompts}": "${item.study}/",
           "${sweeps}": "${key}/", "${photographs}": "${key}/", "${learned}": "${key}/", "${studies}": "${key}/"}


def load(name):
    return YAML(typ="safe").load(ROOT / name)


def stages():
    return list(_stages())


def _stages():
    for name, stage in pipeline().items():
        yield name, stage.get("do", stage)


@pytest.mark.parametrize(("name", "stage"), stages(), ids=[name for name, _ in stages()])
def test_a_stage_depends_on_its_code_and_settings_and_on_all_files_that_its_command_names(name, stage):
    script = re.search(r"python src/main\.py (\S+)", stage["cmd"]).group(1)
    folder = FOLDERS.get(str(pipeline()[name].get("foreach")), "") if script in SWEEP | ALONG | STUDY else ""
    listed = [dep for dep in stage["deps"] if dep.startswith("data/inputs/") or dep.endswith(".py")]
    assert listed == ([] if name == "inputs" else [f"data/inputs/{folder}{script}.json"])
    outs = {
        next(iter(o)) if isinstance(o, dict) else o for key in ("outs", "metrics", "plots") for o in stage.get(key, [])
    }
    params = {next(iter(p)) for p in stage.get("params", []) if isinstance(p, dict)}
    known = set(stage["deps"]) | outs | params
    for word in stage["cmd"].split():
        if re.match(r"(data|figures|models|metrics|plots)/", word):
            assert any(k == word or k.startswith(word + "/") for k in known), word


def test_a_stage_may_take_a_gpu_if_its_command_has_the_option_device():
    for name, stage in stages():
        command = main.get_command(None, re.search(r"python src/main\.py (\S+)", stage["cmd"]).group(1))
        has = any(parameter.name == "device" for parameter in command.params)
        assert stage.get("meta", {}).get("gpu", False) == has, name


def test_runs_yaml_is_what_the_laptop_scale_writes():
    from attractors.commands.scale import runs_of

    assert load("runs.yaml") == runs_of(["laptop"])
    rows = re.findall(r"^  (digits\S*: .*)$", (ROOT / "runs.yaml").read_text().partition("runs:")[2], re.MULTILINE)
    assert len(rows) == len(load("runs.yaml")["runs"])
    assert not any("dataset" in row or "neighbours" in row for row in rows)


def test_sweeps_whose_files_collide_where_case_does_not_count_are_refused(tmp_path):
    from attractors.commands.scale import runs_of

    for name in ("digits", "Digits"):
        (tmp_path / f"{name}.yaml").write_bytes((ROOT / "sweeps" / "digits.yaml").read_bytes())
    assert runs_of(["digits"], tmp_path)["runs"]
    with pytest.raises(ValueError, match="Digits, digits: sweeps whose files are the same"):
        runs_of(["digits", "Digits"], tmp_path)


def test_parameters_that_dvc_looks_up_itself_exist():
    params = load("params.yaml")
    for name, stage in stages():
        for entry in stage.get("params", []):
            if isinstance(entry, str):
                assert entry in params, (name, entry)


@pytest.fixture
def graph(tmp_path):
    """A function: name of a scale to {stage: stages that make what it depends on} and its files that no stage makes."""
    from dvc.repo import Repo

    from attractors.commands.scale import main as scale

    (tmp_path / "models").mkdir()
    for name in ("dvc.yaml", "models/dvc.yaml", "params.yaml", "sweeps", "prompts"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)

    def of(name):
        scale([name, "--out", str(tmp_path / "runs.yaml")], standalone_mode=False)
        with Repo.init(tmp_path, no_scm=True, force=True) as repo:
            edges = repo.index.graph
            made = {out.fs_path for stage in edges for out in stage.outs}
            given = {str(Path(dep.fs_path).relative_to(tmp_path)) for stage in edges for dep in stage.deps
                     if not any(out == dep.fs_path or out.startswith(dep.fs_path + "/") or
                                dep.fs_path.startswith(out + "/") for out in made)}
            return {stage.name: {s.name for s in edges.successors(stage)} - {"inputs"} for stage in edges}, given

    return of


def test_neighbours_and_basins_that_lpips_measures_wait_for_its_weights(graph):
    before, given = graph("cifar10_small")
    assert before["neighbours@cifar10_small-16"] == {"lpips@alex", "sample@cifar10_small-16", "subset@cifar10"}
    assert "lpips@vgg" in before["basin@cifar10_small-16"]
    assert all((ROOT / path).exists() for path in given)
    before, given = graph("mnist_small")
    assert before["neighbours@mnist_small-16"] == {"sample@mnist_small-16", "subset@mnist"}
    assert "lpips@vgg" in before["basin@mnist_small-16"]
    assert "lpips@alex" not in before
    before, given = graph("laptop")
    assert not any(stage.startswith("lpips") for stage in before)
    assert "models/lpips/none.safetensors" in given
    assert all((ROOT / path).exists() for path in given)


def test_the_weights_a_run_waits_for_are_those_its_metric_reads():
    from attractors.commands.scale import backbone

    assert [backbone(metric) for metric in ("l2", "lpips_alex", "lpips_vgg")] == ["none", "alex", "vgg"]


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_a_threshold_changes_nothing_that_reads_a_model(graph, scale):
    """From delta_m and delta_s one reaches types, joined tables, groups of samples, figures and the report, no more.

    None of these stages may take a GPU.
    """
    before, stages = graph(scale)[0], pipeline()
    sections = (SWEEP | STUDY | ALONE).items()
    read = {name for name, kinds in sections if any("delta_m" in kind.model_fields for kind in kinds)}
    assert read == {"classify"}
    reached = {stage for stage in before if stage.split("@")[0] in read}
    while more := {stage for stage, inputs in before.items() if inputs & reached} - reached:
        reached |= more
    kinds = {stage.split("@")[0] for stage in reached}
    assert {"classify", "join", "clusters", "figure_transition", "figure_basin", "report"} <= kinds
    others = {kind for kind in kinds if not kind.startswith("figure_")}
    expected = {"classify", "join", "clusters", "states_table", "claims", "report"}
    assert others == expected | ({"widths"} if scale == "paper" else set())
    for kind in kinds:
        entry = stages[kind].get("do", stages[kind])
        models = [dep for dep in entry["deps"] if dep.startswith("models/") and not dep.startswith("models/lpips/")]
        assert models == [], kind
        assert "meta" not in entry, kind


def test_a_git_that_changes_line_ends_leaves_every_file_as_dvc_knows_it(tmp_path):
    checkout(tmp_path / "here")
    git(tmp_path, "clone", "-q", "-c", "core.autocrlf=true", "here", "there")
    ends = {line.split()[1] for line in git(tmp_path / "there", "ls-files", "--eol").splitlines()}
    assert "w/lf" in ends
    assert not ends & {"w/crlf", "w/mixed"}


def test_a_repro_without_targets_needs_every_stage_of_models(graph):
    """DVC then reproduces the stages of dvc.yaml and what they need, wherever that is."""
    before, _ = graph("laptop")
    reached = {name for name in before if name.split("@")[0] in load("dvc.yaml")["stages"]}
    assert len(reached) < len(before)
    while more := set().union(*(before[name] for name in reached)) - reached:
        reached |= more
    assert reached == set(before)
