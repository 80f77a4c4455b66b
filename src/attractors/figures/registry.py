"""The figures of the project. Each registers itself once, as FIGURE in the module that draws it.

From there come its stage in dvc.yaml, its place and words in the report, and its row in the table of docs/stages.md.
The registry is read without importing what draws.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from attractors.report.words import Table
from attractors.results.run import Run


def nothing(_: Run) -> Iterable[str | Table]:
    """Return the findings of a figure without numbers."""
    return ()


@dataclass(frozen=True)
class Figure:
    """One figure: where it stands in the paper, what the paper says of it, and what a run shows.

    module: the `__name__` of the module that draws it, in this package.
    title: the one question that it answers.
    number: in the paper, as in "4B, 16-19"; "Not in the paper" for a figure of our own.
    stages: the stages of dvc.yaml that compute what it shows.
    pictures: its files below plots/, without suffix; {} stands for the name of a sweep, a dataset or a study.
    tables: the tables below metrics/ that the report offers beneath it, likewise.
    findings: yields sentences and tables on what it shows in a run.
    supplement: whether the report has it in its folded supplement; at most 12 figures are not there.
    """

    module: str
    number: str
    title: str
    paper: str
    stages: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    findings: Callable[[Run], Iterable[str | Table]] = nothing
    supplement: bool = False

    @property
    def stage(self) -> str:
        """The name of its command, which is that of its stage in dvc.yaml."""
        return f"figure_{self.module.rpartition('.')[2]}"

    @property
    def label(self) -> str:
        """Its number with "Fig." or "Figs." before it."""
        plural = "s" * (not self.number.isalnum())
        return f"Fig{plural}. {self.number}" if self.number[0].isdigit() else self.number

    @property
    def row(self) -> str:
        """Its row in the table of figures of docs/stages.md."""
        name = f"{self.number}: {self.title}".replace(f": {self.title[0]}", f": {self.title[0].lower()}")
        stages = ", ".join(f"`{stage}`" for stage in (*self.stages, self.stage))
        files = [f"plots/{picture.removesuffix('{}')}{'' if '{' in picture else '.png'}" for picture in self.pictures]
        return f"| {name[0].lower()}{name[1:]} | {stages} | {', '.join(f'`{file}`' for file in files)} |"

    def position(self) -> tuple[float, str, str]:
        """Return what sorts figures into the paper's order, those that are not in it last."""
        first = re.match(r"(\d+)([A-Z]?)", self.number)
        return (int(first[1]), first[2], "") if first else (float("inf"), "", self.module)


@cache
def figures() -> tuple[Figure, ...]:
    """Return all figures in the paper's order, then those of our own by the names of their modules."""
    files = sorted(Path(__file__).parent.glob("[!_.]*.py"))
    modules = [import_module(f"{__package__}.{path.stem}") for path in files]
    return tuple(sorted((module.FIGURE for module in modules if hasattr(module, "FIGURE")), key=Figure.position))
