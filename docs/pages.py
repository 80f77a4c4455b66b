"""Pages of the site that follow from the code: references, all commands, the table of figures; and its equations."""

import ast
import re
import sys
from pathlib import Path
from typing import Any

import click
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).resolve().parents[1] / "src"
sys.path.insert(0, str(SOURCE))
ROOMS = ("theory", "data", "denoisers", "distances", "landscape", "yardsticks", "auditing", "measurements", "results",
         "settings", "figures")
PACKAGES = {"scheduling": "scheduling"} | {room: f"attractors/{room}" for room in ROOMS}
CODE = re.compile(r"(```.*?```|~~~.*?~~~|`[^`\n]*`)", re.DOTALL)
EQUATION = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$([^$\n]+(?:\n[^$\n]+)?)\$(?!\w)", re.DOTALL)


def public() -> str:
    """Return the page of the names that `import attractors` gives."""
    import attractors

    options = "    options:\n      show_root_full_path: false\n"
    entries = [f"::: attractors.{home}.{name}\n{options}" for name, home in attractors._HOMES.items() if name.islower()]
    return "\n".join([f"# What `import attractors` gives\n\n{attractors.__doc__}\n", *entries])


def reference(name: str, folder: str) -> str:
    """Return the page of one package: what it is for, and the docstrings of each of its modules."""
    about = ast.get_docstring(ast.parse((SOURCE / folder / "__init__.py").read_text("utf-8"))) or ""
    modules = sorted(path.stem for path in (SOURCE / folder).glob("[!_.]*.py"))
    options = "    options:\n      show_source: true\n" if name == "figures" else ""
    return "\n".join([f"# {name.capitalize()}\n\n{about}\n",
                      *(f"::: {folder.replace('/', '.')}.{module}\n{options}" for module in modules)])


def commands() -> str:
    """Return the page of all commands, with the help of each as a terminal shows it."""
    from attractors.cli.group import main

    context = click.Context(main, info_name="attractors", max_content_width=80, terminal_width=80)
    parts = ["# Commands\n", f"```\n{main.get_help(context)}\n```\n"]
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        with click.Context(command, info_name=name, parent=context, terminal_width=80, max_content_width=80) as inner:
            parts.append(f"## {name}\n\n```\n{command.get_help(inner)}\n```\n")
    return "\n".join(parts)


def figures() -> str:
    """Return the table of figures with the stages and pictures of each."""
    from attractors.figures.registry import figures

    return "\n".join(["| figure of the paper | stages | pictures |", "|---|---|---|", *(f.row for f in figures())])


def mathml(text: str) -> str:
    """Return a page with its $equations$ as MathML, which browsers draw without a script; code stays as it is."""

    def equation(match: re.Match[str]) -> str:
        block, inline = match.groups()
        return convert(" ".join((block or inline).split()), display="block" if block else "inline")

    parts = CODE.split(text)
    return "".join(part if i % 2 else EQUATION.sub(equation, part) for i, part in enumerate(parts))


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are generated (a hook of mkdocs)."""
    pages = {f"reference/{name}.md": reference(name, folder) for name, folder in PACKAGES.items()}
    pages |= {"reference/attractors.md": public(), "commands.md": commands()}
    pages["contributing.md"] = (SOURCE.parent / "CONTRIBUTING.md").read_text("utf-8").replace("](docs/", "](")
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    for path in ("plots/transition.png", "plots/scaling.png", "plots/schedule.png", "results/index.html"):
        if (SOURCE.parent / path).is_file():
            files.append(File.generated(config, path, abs_src_path=str(SOURCE.parent / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put figures and equations into a page, and let its links leave docs/ as the site has them (a hook of mkdocs)."""
    if page.file.src_uri.startswith(("reference/", "commands")):
        return markdown
    markdown = markdown.replace("\nFIGURES\n", f"\n{figures()}\n")
    markdown = markdown.replace("](../CONTRIBUTING.md)", "](contributing.md)")
    return mathml(re.sub(r"\]\(\.\./(plots|results)/", r"](\1/", markdown))
