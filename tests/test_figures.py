"""A figure is registered once: what dvc.yaml says of it is held against the registry."""

import re

import pytest
from builders import python, refused
from conftest import ROOT, pipeline
from ruamel.yaml import YAML

from attractors.figures import toy_minima
from attractors.figures.registry import figures
from attractors.figures.style import panels, save

STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())


@pytest.mark.parametrize("figure", figures(), ids=lambda figure: figure.stage)
def test_every_figure_has_its_stage_and_its_place_in_the_report(figure):
    entry = STAGES["stages"][figure.stage]
    entry = entry.get("do", entry)
    assert f"src/main.py {figure.stage} " in entry["cmd"]
    written = {key: [next(iter(out)) if isinstance(out, dict) else out for out in entry[key]]
               for key in ("outs", "plots")}
    for picture in figure.pictures:
        for key, path in (("plots", f"plots/{picture}.png"), ("outs", f"figures/{picture}.pdf")):
            assert path in [re.sub(r"\$\{\w+\}", "{}", out) for out in written[key]]
    assert set(figure.stages) <= set(pipeline())


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".pdf", b"%PDF-1"), (".svg", b"<?xml")])
def test_a_figure_has_the_format_that_its_suffix_names_and_no_date_in_it(tmp_path, suffix, begins):
    for name in "ab":
        figure, axes = panels(1, 1, 2, 2)
        axes[0, 0].plot([1, 2])
        save(figure, [str(tmp_path / f"{name}{suffix}")])
    content = (tmp_path / f"a{suffix}").read_bytes()
    assert content.startswith(begins)
    assert content == (tmp_path / f"b{suffix}").read_bytes()
    assert b"Date" not in content


def test_a_suffix_without_a_format_is_refused_before_anything_is_read():
    line = refused(toy_minima, "missing.csv", "--out", "plots/toy_minima", code=2)
    assert "plots/toy_minima: a figure ends in .png, .pdf, .svg" in line


def test_dvc_has_no_figure_that_is_not_registered():
    registered = {figure.stage for figure in figures()}
    assert {name for name in STAGES["stages"] if name.startswith("figure_")} == registered


def test_a_figure_is_the_same_whatever_matplotlib_is_told_elsewhere(tmp_path):
    """A backend that is not installed, as in a notebook's environment, and a matplotlibrc change no byte."""
    code = (
        "import sys; from attractors.figures.style import panels, save; figure, axes = panels(1, 1, 2, 2); "
        "axes[0, 0].plot([1, 2]); axes[0, 0].set_title('a title'); save(figure, [sys.argv[1]])"
    )
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "matplotlibrc").write_text("text.usetex: True\nfont.size: 20\nlines.linewidth: 9\n")
    told = {"MPLBACKEND": "module://a_backend_that_is_not_installed", "MATPLOTLIBRC": str(tmp_path / "user")}
    for name, others in (("a", {}), ("b", told)):
        python(code, tmp_path / f"{name}.png", folder=tmp_path, **others)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
