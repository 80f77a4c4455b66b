"""A figure is registered once: what README and dvc.yaml say of it is held against the registry."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from attractors.figures.registry import figures

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())


@pytest.mark.parametrize("figure", figures(), ids=lambda figure: figure.stage)
def test_every_figure_has_its_stage_its_place_in_the_report_and_its_row_in_readme(figure):
    entry = STAGES["stages"][figure.stage]
    entry = entry.get("do", entry)
    assert f"src/main.py {figure.stage} " in entry["cmd"]
    written = [next(iter(out)) if isinstance(out, dict) else out for out in entry["outs"]]
    listed = [next(iter(plot)) if isinstance(plot, dict) else plot for plot in STAGES["plots"]]
    for picture in figure.pictures:
        for suffix in (".png", ".pdf"):
            assert re.sub(r"\$\{\w+\}", "{}", f"plots/{picture}{suffix}") in [
                re.sub(r"\$\{\w+\}", "{}", w) for w in written
            ]
        shown_by = f"plots/{picture.removesuffix('/{}')}" + ".png" * ("{" not in picture)
        assert shown_by in STAGES["stages"]["report"]["deps"]
        assert shown_by in listed or figure.stage == "figure_stable_diffusion"
    for table in figure.tables:
        assert any(dep.startswith(f"metrics/{table.removesuffix('/{}')}") for dep in STAGES["stages"]["report"]["deps"])
    assert f"data/sources/{figure.stage}.txt" in STAGES["stages"]["report"]["deps"]
    assert set(figure.stages) <= set(STAGES["stages"])
    assert figure.row in (ROOT / "README.md").read_text().splitlines()


def test_readme_and_dvc_have_no_figure_that_is_not_registered():
    registered = {figure.stage for figure in figures()}
    assert {name for name in STAGES["stages"] if name.startswith("figure_")} == registered
    assert set(re.findall(r"`(figure_\w+)` \|", (ROOT / "README.md").read_text())) == registered


def test_the_registry_is_read_without_what_draws():
    code = (
        "import sys, attractors.figures.registry as r; r.figures(); print({'matplotlib', 'torch'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert found.stdout == "set()\n"
