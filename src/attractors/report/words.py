"""Numbers of a run in words: shares, intervals, means and orders as sentences say them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from attractors.results.run import ORDER, Run
from attractors.tables import read_json


class Table(NamedTuple):
    """A table in words, for the report: its caption, the names of its columns, and rows of as many cells."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def headline(run: Run) -> Table:
    """Return the first numbers to look at for each learned sweep, from those of `dvc metrics`."""
    rows = []
    for name in run.learned:
        if (path := run.metrics / "summary" / f"{name}.json").is_file():
            found = read_json(path)
            half, peak = found["half_memorized_K"], found["spurious_peak"]
            rows.append([name, "none" if half is None else f"{half:g}", percent(peak),
                         *(f"{found[key]:g}" for key in ("spurious_peak_K", "delta_m", "delta_s"))])
    columns = ("sweep", "K where memorized samples fall to one half", "most spurious samples", "at K",
               "delta_m there", "delta_s there")
    return Table("In short", columns, rows)


def answer(run: Run) -> list[str]:
    """Return what the first learned sweep shows, in three sentences that say what the three types are."""
    name = run.learned[0] if run.learned else ""
    if (table := run.table("fractions", name)) is None or table.empty:
        return []
    first, last, peak = table.iloc[0], table.iloc[-1], table.loc[table.spurious.idxmax()]

    def both(kind: str) -> str:
        return f"{percent(first[kind])} at K = {first.K:.0f} and {percent(last[kind])} at K = {last.K:.0f}"

    return [
        f"Each model of {name} is trained on a set S of K images and draws a set S' of samples; those within delta_m "
        f"of an image of S are memorized: {both('memorized')}.",
        f"Of the others, those within delta_s of another sample are spurious: at "
        f"most {percent(peak.spurious)}, at K = {peak.K:.0f}.",
        f"All others are generalized: {both('generalized')}.",
    ]


def tally(statements: Table) -> list[tuple[str, int]]:
    """Return the verdicts of a table of statements with their numbers, in the order in which they occur first."""
    verdicts = [row[-1] for row in statements.rows]
    return [(verdict, verdicts.count(verdict)) for verdict in dict.fromkeys(verdicts)]


def claims(run: Run) -> list[Table]:
    """Return the paper's statements and their verdicts, a table for each learned sweep that has claims/SWEEP.csv."""
    columns = ("the paper says", "where", "measured here", "effect (interval of all rows together)", "p", "verdict")
    return [
        Table(
            f"The paper's statements, tested on {name}",
            columns,
            [
                [row.claim, row.source, row.measure, f"{row.effect:.3g} ({row.low:.3g} to {row.high:.3g})",
                 "" if pd.isna(row.p_corrected) else f"{row.p_corrected:.2g}", row.verdict]
                for row in table.itertuples()
            ],
        )
        for name in run.learned
        if (table := run.table("claims", name, "effect", "low", "high", "p_corrected")) is not None
    ]


def percent(share: float) -> str:
    """Return a share in words: two significant digits below ten percent; below a hundredth of a percent only that."""
    if share < 1e-4:
        return "less than 0.01%" if share > 1e-9 else "0%"
    return f"{100 * share:.2g}%" if share < 0.0995 else "100%" if share == 1 else f"{100 * share:.1f}%"


def interval(row: pd.Series, kind: str) -> str:
    """Return a fraction with its 95% interval."""
    return f"{percent(row[kind])} ({percent(row[f'{kind}_low'])} to {percent(row[f'{kind}_high'])})"


def means(table: pd.DataFrame, column: str, size: float) -> list[str]:
    """'1.23 ± 0.04', the mean and its standard error, of each type in ORDER in a table at one K; '' without one."""
    at = table[size == table.K].set_index("type")
    mean, error = (
        at[name].reindex(ORDER) if name in at else pd.Series(np.nan, ORDER) for name in (column, f"{column}_se")
    )
    return [
        "" if pd.isna(value) else f"{value:.3g}" + ("" if pd.isna(bar) else f" ± {bar:.2g}")
        for value, bar in zip(mean, error, strict=True)
    ]


def by_type(caption: str, rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of quantities by type. rows: sweep, K, quantity, and a cell for each type in ORDER."""
    return Table(caption, ("sweep", "K", "mean ± standard error", *ORDER), rows)


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
