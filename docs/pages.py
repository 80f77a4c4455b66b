"""Pages of the site that follow from the code: a reference of each room, and the table of figures and scripts."""

import ast
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).resolve().parents[1] / "src"
ROOMS = ("theory", "data", "denoisers", "distances", "landscape", "results", "settings", "figures")
PACKAGES = {"attractors": "attractors", "scheduling": "scheduling"} | {room: f"attractors/{room}" for room in ROOMS}
SCRIPTS = "    options:\n      show_source: true\n"  # of figures, the scripts themselves are what one looks for


def reference(name: str, folder: str) -> str:
    """Return the page of one package: what it is for, and the docstrings of each of its modules."""
    about = ast.get_docstring(ast.parse((SOURCE / folder / "__init__.py").read_text("utf-8"))) or ""
    modules = sorted(path.stem for path in (SOURCE / folder).glob("[!_.]*.py"))
    options = SCRIPTS if name == "figures" else ""
    entries = [f"::: {folder.replace('/', '.')}.{module}\n{options}" for module in modules]
    return "\n".join([f"# {name.capitalize()}\n\n{about}\n", *entries])


def on_files(files: Files, config: Any) -> Files:
    """Add the pages reference/NAME.md (a hook of mkdocs)."""
    for name, folder in PACKAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=reference(name, folder)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the line FIGURES by a row for each figure (a hook of mkdocs)."""
    if "\nFIGURES\n" not in markdown:
        return markdown
    sys.path.insert(0, str(SOURCE))
    from attractors.figures.registry import figures

    rows = [
        f"| {figure.label}: {figure.title} | [{figure.stage}](reference/figures.md#{figure.module}) |"
        for figure in figures()
    ]
    return markdown.replace("\nFIGURES\n", "\n" + "\n".join(rows) + "\n")
