"""The tables of other definitions of memorization: every yardstick at every K, and where each crosses its half."""

from pathlib import Path

import click

from attractors.arrays import read_arrays
from attractors.cli.stage import data_option, metrics_option, seed_option, stage
from attractors.randomness import YARDSTICKS, generator
from attractors.results.run import Run
from attractors.results.yardsticks import crossings_table, gaps_table, yardsticks_table
from attractors.tables import write_csv


@stage("yardsticks_table")
@click.argument("name")
@data_option
@metrics_option
@seed_option
def main(name: str, data: Path, metrics: Path, seed: int) -> None:
    """Write METRICS/{yardsticks,crossings,gaps}/NAME.csv from DATA/yardsticks/NAME and DATA/training_time/NAME.

    Intervals count how replicates differ, where there are several.
    """
    run = Run(metrics, data=data)
    runs, along = (
        {size: [read_arrays(path) for path in run.files(kind, name, size).values()]
         for size in run.sizes_in(kind, name)}
        for kind in ("yardsticks", "training_time")
    )
    if not runs and not along:
        raise ValueError(f"{data / 'yardsticks' / name}: no files; python src/main.py yardsticks writes them")
    table = yardsticks_table(runs, {size: files[0][0] for size, files in along.items()})
    crossed = crossings_table(table, generator(seed, YARDSTICKS))
    write_csv(metrics / "yardsticks" / f"{name}.csv", table)
    write_csv(metrics / "crossings" / f"{name}.csv", crossed)
    write_csv(metrics / "gaps" / f"{name}.csv", gaps_table(runs))
    click.echo(crossed.to_string(index=False, float_format="%.3g"))
    click.echo(f"{metrics}: {table.yardstick.nunique()} yardsticks of {name} at {table.K.nunique()} sizes")
