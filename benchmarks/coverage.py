"""Do the intervals of the claims cover, and how often is a verdict wrong? Whole tables of sweeps whose truth is known.

    python benchmarks/coverage.py --runs 1000 --out docs/coverage.csv

Each run draws the replicates of a sweep, writes its tables and makes the table of claims. In one
half of the truths every statement is true, in the other none has an effect; replicates differ in each way of
`planted.DESIGNS`. The truth of a row is its mean effect over the runs. `coverage` is the share of its 95% intervals
that hold it, and `holds` and `fails` are the shares of verdicts, which count all rows together. `any_verdict` is the
share of tables without an effect that have a verdict; the row on half of S' has an effect in each of them.
"""

import tempfile
from pathlib import Path

import click
import numpy as np
import pandas as pd
from planted import DESIGNS, NOTHING, PAPER, run_of

from attractors.measurements.registry import quantities
from attractors.results.claims import FAILS, HOLDS
from attractors.results.statements import claims

LIKE_THE_DEFAULT = 0.25  # how much replicates differ: ln K by 0.25, log-volumes by 3


def simulated(truth: dict, design: str, models: int, runs: int) -> pd.DataFrame:
    """Return the tables of claims of `runs` sweeps, one below the other."""
    others = [quantity.claims for quantity in quantities().values()]
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(runs):
            run = run_of(Path(folder), models=models, seed=seed, design=design, spread=LIKE_THE_DEFAULT, **truth)
            tables.append(claims(run, "x", np.random.default_rng(seed), others).assign(run=seed))
    return pd.concat(tables, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each claim: the mean effect, the coverage of 95% intervals, the shares of verdicts."""
    middle = table.groupby("claim").effect.transform("mean")
    scored = table.assign(
        coverage=(table.low_95 <= middle) & (middle <= table.high_95), holds=table.verdict == HOLDS,
        fails=table.verdict == FAILS,
    )
    return scored.groupby("claim", sort=False)[["effect", "coverage", "holds", "fails"]].mean().reset_index()


@click.command()
@click.option("--runs", type=click.IntRange(2), default=1000, show_default=True, help="Of each truth.")
@click.option("--models", type=click.IntRange(2), default=5, show_default=True, help="Replicates of each size.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A CSV of the table.")
def main(runs: int, models: int, out: Path | None) -> None:
    """Print, under each truth, the coverage of the intervals of each row and how often it holds or fails."""
    parts = []
    for effect, truth in (("the paper's", PAPER), ("none", NOTHING)):
        for design in DESIGNS:
            table = simulated(truth, design, models, runs)
            wrong = table[table.verdict.isin([HOLDS, FAILS]) & ~table.claim.str.startswith("Half")].run.nunique() / runs
            part = summary(table).assign(truth=effect, replicates_differ=design, any_verdict=wrong)
            click.echo(f"\neffects: {effect}; replicates differ: {design}; any verdict: {wrong:.3f}\n"
                       f"{part[['claim', 'coverage', 'holds', 'fails']].to_string(index=False)}")
            parts.append(part)
            if out:
                pd.concat(parts).round(3).to_csv(out, index=False)


if __name__ == "__main__":
    main()
