"""The command `attractors`: every stage, figure and tool of the project by name, imported only when it is asked for."""

import ast
import importlib
from functools import cache
from pathlib import Path

import click

PACKAGE = Path(__file__).resolve().parents[1]
HEADINGS = {"commands": "Commands that people type", "stages": "Stages", "figures": "Stages of one figure each"}


@cache
def modules() -> dict[str, tuple[str, Path]]:
    """{command: (the module that defines it, its file)}: figures are called figure_NAME, all others as their file."""
    found = {}
    for room in HEADINGS:
        for path in sorted((PACKAGE / room).glob("[!.]*.py")):  # what editors and file systems hide is no module
            if "\ndef main(" in path.read_text("utf-8"):
                name = f"figure_{path.stem}" if room == "figures" else path.stem
                found[name] = (f"attractors.{room}.{path.stem}", path)
    return found


def about(path: Path) -> str:
    """Return the first line of a module's docstring, or words that say that the module does not parse."""
    try:
        return (ast.get_docstring(ast.parse(path.read_bytes())) or "").partition("\n")[0]
    except SyntaxError as error:
        return f"(does not parse: line {error.lineno})"


class Lazy(click.Group):
    """A group whose commands are the modules of three rooms.

    To list them it reads their first lines without importing them.
    """

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(modules())

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import and return the command called `name`, in which - stands for _; None for an unknown name."""
        name = name.replace("-", "_")
        return importlib.import_module(modules()[name][0]).main if name in modules() else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by room, each with the first line of its module."""
        for room, heading in HEADINGS.items():
            rows = [
                (name, about(path))
                for name, (module, path) in modules().items()
                if module.startswith(f"attractors.{room}.")
            ]
            with formatter.section(heading):
                formatter.write_dl(rows)


@click.command(cls=Lazy, context_settings={"max_content_width": 120})
@click.version_option(package_name="attractors")
def main() -> None:
    """Memorization to generalization: diffusion models as associative memories.

    Every command explains itself: attractors COMMAND --help.
    """
