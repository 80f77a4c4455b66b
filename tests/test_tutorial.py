"""Commands on the pages name scripts, options, stages and parameters that exist; those on your own images are run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image
from ruamel.yaml import YAML

from attractors.arrays import read_arrays
from attractors.cli.group import main as group
from attractors.distances.detection import TYPES, classify
from attractors.distances.detection import fractions as shares_of
from attractors.report.explorer import GRID

PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]


def blocks(page, language=r"console[ \w]*"):
    """(words after ```, lines) of the code blocks of a page."""
    return re.findall(rf"```({language})\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def commands(page):
    return [line for _, block in blocks(page) for line in block.splitlines() if line.strip()]


ALL = sorted({command for page in PAGES for command in commands(page)})


def load(name):
    return YAML(typ="safe").load(ROOT / name)


def words(command):
    return shlex.split(command, comments=True)


@pytest.mark.parametrize("command", [c for c in ALL if c.startswith(("python ", "attractors "))])
def test_scripts_and_options_exist(command):
    script, *rest = words(re.sub("^attractors", "python src/main.py", command))[1:]
    if script != "src/main.py":
        assert script == "-m" or (ROOT / script).is_file()
        return
    name, *arguments = rest
    main = group.get_command(click.Context(group), name)
    main.make_parser(click.Context(main)).parse_args(arguments)  # raises for an option that it does not have


@pytest.mark.parametrize("command", [c for c in ALL if c.startswith("make ")])
def test_targets_of_make_exist(command):
    assert re.search(rf"^{words(command)[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", [c for c in ALL if c.startswith("dvc ")])
def test_dvc_knows_the_command_its_parameters_and_stages(command):
    from dvc.cli import parse_args

    parsed = parse_args(words(command)[1:])  # exits for an option that it does not have
    for setting in getattr(parsed, "set_param", None) or []:
        name, value = setting.split("=")
        path, _, key = name.rpartition(":")
        section = load(path or "params.yaml")
        for part in key.removeprefix("+").split(".")[:-1]:
            section = section[part]
        assert value and (key.startswith("+") or key.split(".")[-1] in section)
    if "repro" in command.split():
        for target in parsed.targets:
            path, _, name = target.rpartition(":")
            assert name.split("@")[0] in load(path or "dvc.yaml")["stages"]


def test_no_other_kind_of_command_is_in_the_pages():
    known = ("python ", "attractors ", "make ", "dvc ", "source .venv/bin/activate", "pip ", "ray ", "patch ")
    others = [c for c in ALL if not c.startswith(known)]
    assert not others


def run(command, folder):
    """A command of the tutorial in a folder, with this environment."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    result = subprocess.run(words(command), cwd=folder, env=environment, capture_output=True, text=True, timeout=600,
                            check=False)
    assert result.returncode == 0, f"{command}\n{result.stdout[-1500:]}{result.stderr[-1500:]}"
    return result.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The repository as git would clone it, with some images."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("src", "sweeps", "prompts", "data/raw", "models/lpips", ".dvc/plots"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    for name in ("dvc.yaml", "models/dvc.yaml", "models/.gitignore", "params.yaml", "runs.yaml", ".dvc/config",
                 ".dvc/.gitignore", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 8), dtype=np.uint8)
    (folder / "data/raw/mine").mkdir(parents=True)
    for number, image in enumerate(images[:40]):
        Image.fromarray(image).save(folder / f"data/raw/mine/{number:03}.png")
    np.savez(folder / "training.npz", images[:40])
    np.savez(folder / "samples.npz", np.concatenate([images[:30], images[40:]]))
    return folder


def test_your_own_samples(clone):
    ((_, block),) = blocks("docs/tutorial.md", "console samples")
    for command in block.splitlines():
        run(command, clone)
    table = pd.read_csv(clone / "mine/fractions/mine.csv")
    assert table.memorized[0] == pytest.approx(30 / 80)  # the copies of training images
    assert table.spurious[0] == 0


def test_your_own_images_then_the_command_of_the_explorer(clone):
    ((_, sweep),) = blocks("docs/tutorial.md", "yaml")
    (clone / "sweeps/mine.yaml").write_text(sweep)
    ((_, block),) = blocks("docs/tutorial.md", "console dataset")
    for command in ("git init -q", *block.splitlines(), "git add -A",
                    "git -c user.name=a -c user.email=a@b commit -qm first"):
        run(command, clone)
    table = pd.read_csv(clone / "metrics/fractions/mine.csv")
    assert list(table.K) == [4, 16]
    nearest, _ = read_arrays(clone / "data/neighbours/mine/16.safetensors", "training_distances", "synthetic_distances")
    delta_m, delta_s = (GRID[np.searchsorted(GRID, np.median(d[:, 0]))] for d in nearest.values())
    run(f"dvc exp run -S delta_m={delta_m:g} -S delta_s={delta_s:g} classify@mine", clone)
    table = pd.read_csv(clone / "metrics/fractions/mine.csv")
    for size, row in zip(table.K, table[list(TYPES)].to_numpy(), strict=True):
        arrays, _ = read_arrays(clone / f"data/neighbours/mine/{size}.safetensors")
        codes = classify(arrays["training_distances"][:, 0], arrays["synthetic_distances"][:, 0], float(delta_m),
                         float(delta_s))
        np.testing.assert_allclose(row, shares_of(codes), atol=1e-6)
    assert 0 < table.memorized[1] < 1
    assert "The same samples under other thresholds" in run("python src/main.py compare HEAD workspace", clone)
