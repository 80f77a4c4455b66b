"""The command `attractors`: every command by what it is for, imported only when it is asked for."""

import ast
import importlib
from functools import cache
from pathlib import Path

import click

from attractors.cli.settings import OF_CODE, ROOT
from attractors.code import tree

PACKAGE = Path(__file__).resolve().parents[1]
NO_FIGURES = ("registry", "style")  # files of figures/ that the figures share; each other file is a figure
SECTIONS = {  # of --help; all other commands that are stages have a section of their own
    "Your own samples": ("audit", "neighbours", "classify", "clusters", "yardsticks", "lpips_weights",
                         "import_checkpoint", "export_diffusers"),
    "The pipeline": ("scale", "study", "pull", "fan_out", "verify"),
    "Compare and publish": ("compare", "report", "release"),
}


@cache
def modules() -> dict[str, tuple[str, Path]]:
    """{command: (the module that defines it, its file)}: figures are called figure_NAME, all others as their file."""
    files = {}
    for room, prefix in (("commands", ""), ("stages", ""), ("figures", "figure_")):
        for path in sorted((PACKAGE / room).glob("[!._]*.py")):  # what editors and file systems hide is no module
            if path.stem not in NO_FIGURES:
                files[f"{prefix}{path.stem}"] = f"attractors.{room}.{path.stem}", path
    return files


def summary(path: Path) -> str:
    """Return the first line of a module's docstring, which is not imported for it."""
    return str(ast.get_docstring(tree(path))).partition("\n")[0]


class Lazy(click.Group):
    """A group whose commands are modules, of which none is imported to list them."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(modules())

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import and return the command called `name`, in which - stands for _; None for an unknown name."""
        name = name.replace("-", "_")
        return importlib.import_module(modules()[name][0]).main if name in modules() else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what they are for, each with what its module says first, and the figures by name."""
        others = [name for name, (_, path) in modules().items() if path.parent.name == "stages"
                  and not any(name in names for names in SECTIONS.values())]
        for heading, names in (SECTIONS | {"Stages": others}).items():
            with formatter.section(heading):
                formatter.write_dl([(name, summary(modules()[name][1])) for name in names])
        figures = [name.removeprefix("figure_") for name in modules() if name.startswith("figure_")]
        with formatter.section("Figures"):
            formatter.write_dl([("figure_NAME", f"Draw one figure; NAME is {', '.join(figures)}.")])


@click.command(cls=Lazy, context_settings={"max_content_width": 120})
@click.version_option(package_name="attractors")
def main() -> None:
    """Memorization to generalization: diffusion models as associative memories.

    Every command explains itself: attractors COMMAND --help. ATTRACTORS_DEBUG=1 shows the traceback of an error.
    """
    if OF_CODE and ROOT != OF_CODE:
        click.echo(f"The code of {OF_CODE} acts on the checkout around this folder, {ROOT}.", err=True)
