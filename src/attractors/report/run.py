"""The tables of a run, and the words for their numbers."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from attractors.distances.detection import TYPES
from attractors.tables import read_csv, read_json


@dataclass(frozen=True)
class Run:
    """The tables of a run. `learned` and `controls`: names of its sweeps; `studies`: of its studies of prompts."""

    metrics: Path
    learned: tuple
    controls: tuple = ()
    studies: tuple = ()

    def table(self, kind, name=""):
        """The table METRICS/kind/name.csv, or METRICS/kind/name/K.csv of all K as one; None where there is neither."""
        path = self.metrics / kind / name
        if (single := path.with_name(f"{path.name}.csv")).is_file():
            return read_csv(single)
        parts = sorted((part for part in path.glob("*.csv") if part.stem.isdecimal()), key=lambda part: int(part.stem))
        return pd.concat([read_csv(part) for part in parts], ignore_index=True) if parts else None

    @cached_property
    def peaks(self):
        """Of each learned sweep, the row of its fractions where the spurious one is largest."""
        tables = {name: self.table("fractions", name) for name in self.learned}
        return {name: table.loc[table.spurious.idxmax()] for name, table in tables.items() if table is not None}

    def headline(self):
        """What one asks first, of each learned sweep: (columns, rows of text), from the numbers of `dvc metrics`."""
        rows = []
        for name in self.learned:
            if (path := self.metrics / "summary" / f"{name}.json").is_file():
                found = read_json(path)
                half, peak = found["half_memorized_K"], found["spurious_peak"]
                rows.append([name, "none" if half is None else f"{half:g}", percent(peak),
                             *(f"{found[key]:g}" for key in ("spurious_peak_K", "delta_m", "delta_s"))])  # fmt: skip
        columns = ("sweep", "K where memorized samples fall to one half", "most spurious samples", "at K",
                   "delta_m there", "delta_s there")  # fmt: skip
        return columns, rows


def percent(share):
    """A share as a reader says it: two significant digits below ten percent."""
    return f"{100 * share:.2g}%" if share < 0.0995 else "100%" if share == 1 else f"{100 * share:.1f}%"


def interval(row, kind):
    """A fraction with its 95% interval."""
    return f"{percent(row[kind])} ({percent(row[f'{kind}_low'])} to {percent(row[f'{kind}_high'])})"


def halving(table, column="memorized", level=0.5):
    """The two sizes between which a falling share first crosses `level`, or None."""
    for above, below in zip(table.itertuples(), table.iloc[1:].itertuples(), strict=False):
        if getattr(above, column) > level >= getattr(below, column):
            return int(above.K), int(below.K)
    return None


def means(table, column, size, error=None):
    """'memorized 1.2, spurious 3.4' of the types in a table at one K."""
    at = table[size == table.K].set_index("type")
    bars = {kind: f" ± {at[error][kind]:.2g}" if error and pd.notna(at[error][kind]) else "" for kind in at.index}
    kinds = [kind for kind in (*TYPES, "training") if kind in at.index and pd.notna(at[column][kind])]
    return ", ".join(f"{kind} {at[column][kind]:.3g}{bars[kind]}" for kind in kinds)


def order(table, column, kinds):
    """How often the mean of `column` falls along `kinds`, and how often by more than twice the standard error."""
    names = [column, f"{column}_se"]
    wide = table.pivot(index="K", columns="type", values=names).reindex(
        columns=pd.MultiIndex.from_product([names, kinds])
    )
    mean, error = np.split(wide.dropna().to_numpy(), 2, axis=1)
    falls = -np.diff(mean, axis=1)
    sure = (falls > 2 * np.hypot(error[:, 1:], error[:, :-1])).all(1).sum()
    return (
        f"means fall in the order {' > '.join(kinds)} at {(falls > 0).all(1).sum()} of the {len(mean)} sizes where all "
        f"were measured, by more than two standard errors a step at {sure}."
    )
