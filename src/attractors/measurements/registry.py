"""The measured quantities. Each registers itself once, as QUANTITY in a module with the name of its stage.

From there come the options and settings of the stage, the tables that `join` writes, and rows of the table of claims.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a stage that measures needs none of them, and is not stale when one of them changes
    import pandas as pd

    from attractors.results.claims import Claim
    from attractors.results.run import Run
    from attractors.settings.section import Section


def nothing(_run: "Run", _name: str) -> "Iterator[Claim]":
    """Yield no claim, for a quantity of which the paper says nothing."""
    yield from ()


@dataclass(frozen=True)
class Quantity:
    """One quantity that a stage measures of chosen samples and training images.

    settings: the sections of its stage, by the argument that gets them; the one called `settings` also says which
    patterns are measured. tables: by name, a function (size, arrays, record, kinds) -> the rows of one K, and the
    columns by whose values dispersions are estimated apart. The table with the quantity's own name is also written for
    each replicate alone. claims: yields what a sweep says of the paper's statements, from (run, name).
    """

    settings: "dict[str, type[Section]]"
    tables: "dict[str, tuple[Callable[..., pd.DataFrame], list[str]]]"
    claims: "Callable[[Run, str], Iterator[Claim]]" = nothing


def quantity(name: str) -> Quantity:
    """Return the quantity that the stage `name` measures."""
    return import_module(f"attractors.measurements.{name}").QUANTITY


@cache
def quantities() -> dict[str, Quantity]:
    """Return all quantities by the names of their stages, in alphabetical order."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_.]*.py") if path.stem != "registry")
    return {name: quantity(name) for name in names}
