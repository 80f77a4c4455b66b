"""Faults are injected when asked for by name, `python -m pytest tests/faults`: minutes, which `make test` does without.

Ends with a table of what was injected, how often, and what came of it; --table FILE writes it as markdown too.
"""

from collections import Counter
from pathlib import Path

import pytest

FOUND = Counter()


def pytest_addoption(parser):
    parser.addoption("--table", type=Path, help="File for the table of faults.")


def pytest_collection_modifyitems(config, items):
    if not any("faults" in argument for argument in config.args):
        here = Path(__file__).parent
        config.hook.pytest_deselected(items=[item for item in items if here in item.path.parents])
        items[:] = [item for item in items if here not in item.path.parents]


@pytest.fixture
def came_of_it():
    """A function (fault, outcome) that counts for the table."""
    return lambda fault, outcome: FOUND.update([(fault, outcome)])


def pytest_terminal_summary(terminalreporter, config):
    if FOUND:
        rows = [f"| {fault} | {count} | {outcome} |" for (fault, outcome), count in FOUND.items()]
        lines = ["| injected | times | what came of it |", "|---|---|---|", *rows]
        terminalreporter.write_line("\n".join(lines))
        if path := config.getoption("table", None):
            path.write_text("\n".join(lines) + "\n")
