"""The words for the numbers of a run: shares, intervals, means and orders as sentences say them."""

import numpy as np
import pandas as pd

from attractors.results.run import ORDER, Run
from attractors.tables import read_json


def headline(run: Run) -> tuple[tuple[str, ...], list[list[str]]]:
    """What one asks first, of each learned sweep: (columns, rows of text), from the numbers of `dvc metrics`."""
    rows = []
    for name in run.learned:
        if (path := run.metrics / "summary" / f"{name}.json").is_file():
            found = read_json(path)
            half, peak = found["half_memorized_K"], found["spurious_peak"]
            rows.append([name, "none" if half is None else f"{half:g}", percent(peak),
                         *(f"{found[key]:g}" for key in ("spurious_peak_K", "delta_m", "delta_s"))])  # fmt: skip
    columns = ("sweep", "K where memorized samples fall to one half", "most spurious samples", "at K",
               "delta_m there", "delta_s there")  # fmt: skip
    return columns, rows


def percent(share: float) -> str:
    """A share as a reader says it: two significant digits below ten percent."""
    return f"{100 * share:.2g}%" if share < 0.0995 else "100%" if share == 1 else f"{100 * share:.1f}%"


def interval(row: pd.Series, kind: str) -> str:
    """A fraction with its 95% interval."""
    return f"{percent(row[kind])} ({percent(row[f'{kind}_low'])} to {percent(row[f'{kind}_high'])})"


def means(table: pd.DataFrame, column: str, size: float, error: str | None = None) -> str:
    """'memorized 1.2, spurious 3.4' of the types in a table at one K."""
    at = table[size == table.K].set_index("type")
    bars = {kind: f" ± {at[error][kind]:.2g}" if error and pd.notna(at[error][kind]) else "" for kind in at.index}
    kinds = [kind for kind in ORDER if kind in at.index and pd.notna(at[column][kind])]
    return ", ".join(f"{kind} {at[column][kind]:.3g}{bars[kind]}" for kind in kinds)


def order(table: pd.DataFrame, column: str, kinds: tuple[str, ...]) -> str:
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
