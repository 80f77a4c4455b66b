"""The tables that figures of the energy landscape read: one CSV for each K of a sweep."""

from pathlib import Path

import click
import pandas as pd

from attractors.distances.detection import TYPES
from attractors.tables import read_csv

ORDER = (*TYPES, "training")


def read_runs(folder):
    """All tables FOLDER/K.csv as one, sorted by K. Raises click.BadParameter where there are none."""
    paths = sorted((path for path in Path(folder).glob("*.csv") if path.stem.isdecimal()), key=lambda p: int(p.stem))
    if not paths:
        raise click.BadParameter(f"{folder}: no tables (K.csv)")
    return pd.concat([read_csv(path, "K") for path in paths], ignore_index=True)


def read_control(folder):
    """The tables of the exact control of the sweep whose tables are in `folder`, or None."""
    folder = Path(f"{folder}-exact")
    return read_runs(folder) if folder.is_dir() else None


def wide(table, columns):
    """One row for each K: column TYPE_COLUMN for each type and column, as `dvc plots` reads it."""
    parts = [
        part.set_index("K")[columns].add_prefix(f"{name}_") for name in ORDER if len(part := table[table.type == name])
    ]
    return pd.concat(parts, axis=1).sort_index().reset_index()
