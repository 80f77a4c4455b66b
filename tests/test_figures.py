"""A figure is registered once: what dvc.yaml says of it is held against the registry."""

import re
from itertools import combinations

import numpy as np
import pytest
from builders import python, refused
from conftest import ROOT, pipeline
from ruamel.yaml import YAML

from attractors.figures import toy_minima
from attractors.figures.registry import figures
from attractors.figures.style import COLOURS, MARKERS, panels, save

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


def lab(colour, seen):
    """CIELAB coordinates of a colour, by the matrix [3, 3] of what is seen of linear RGB."""
    linear = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(seen @ linear, 1e-3, 1) / [0.9505, 1, 1.0888])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", [  # Machado, Oliveira and Fernandes (2009): deuteranopia, protanopia
    [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]], ids=["deuteranopia", "protanopia"])
def test_colours_and_markers_of_the_types_differ_for_everyone(seen):
    places = [lab(colour, np.array(seen)) for colour in COLOURS.values()]
    assert min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) > 30
    assert len(set(MARKERS.values())) == len(COLOURS) == len(MARKERS)


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
