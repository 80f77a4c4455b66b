"""What each stage's code is: a hash of its module and of every file that this imports, comments aside."""

from pathlib import Path

import click

from attractors.cli.code import code_hashes
from attractors.cli.group import modules
from attractors.cli.settings import ROOT
from attractors.cli.stage import stage
from attractors.files import atomic


@stage("sources")
@click.option("--out", type=click.Path(file_okay=False), required=True, help="The folder to write.")
def main(out: str) -> None:
    """Write a file for each stage to OUT: hashes of the code that its result depends on.

    Stages depend on these files, so that what is run again after an edit is what the edit can have changed.
    """
    scripts = {name: path for name, (_, path) in modules().items() if "commands" not in path.parts}
    for name, script in scripts.items():
        lines = [f"{code}  {path}\n" for path, code in code_hashes(script, ROOT / "src").items()]
        with atomic(Path(out) / f"{name}.txt") as partial:
            partial.write_text("".join(lines), "utf-8", newline="\n")
    click.echo(f"{out}: the code of {len(scripts)} stages")


if __name__ == "__main__":
    main()
