"""make docs: a site without warnings that finds public names and commands, draws equations, and fetches nothing."""

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

pytest.importorskip("material")
pytest.importorskip("latex2mathml")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder], cwd=ROOT,
                   env=environment, check=True, timeout=600)
    return folder


def test_public_names_and_commands_are_searched(site):
    places = {entry["location"] for entry in json.loads((site / "search/search_index.json").read_text())["docs"]}
    assert {"commands.html#fan_out", "commands.html#classify"} <= places
    public = (site / "reference/attractors.html").read_text()
    for name in ("nearest", "classify", "read_images", "copy_bound"):
        assert re.search(rf'id="attractors\.\w+\.\w+\.{name}"', public)


def test_equations_are_drawn_and_figures_listed(site):
    assert (site / "equations.html").read_text().count("<math") > 20
    assert "FIGURES" not in (site / "stages.html").read_text()
    assert "figure_transition" in (site / "stages.html").read_text()


def test_pages_fetch_nothing_from_elsewhere_and_their_pictures_are_in_the_site(site):
    for page in site.glob("*.html"):
        for target in re.findall(r'(?:src|href)="([^"#?]+)[^"]*"[^>]*(?:>|/>)', page.read_text()):
            if target.endswith((".png", ".js", ".css", ".woff2")):
                assert "://" not in target
                assert (page.parent / target).exists() or target.startswith("/"), f"{page.name}: {target}"
