"""Join the types of samples with what was measured of them: a table of each quantity by type and K."""

from pathlib import Path

import click
import numpy as np
import pandas as pd

from attractors.cli.stage import data_option, metrics_option, stage
from attractors.measurements.registry import quantities
from attractors.results.joined import kinds, single, with_replicates
from attractors.results.run import Run
from attractors.settings.join import Joining
from attractors.tables import write_csv

DROPPED = ("_std", "_between", "_nearest", "_nearest_se")  # ends of columns that no single replicate has


@stage("join", settings=Joining)
@click.argument("name")
@data_option
@metrics_option
def main(name: str, data: Path, metrics: Path, settings: Joining) -> None:
    """Write a table of each quantity that was measured of the sweep NAME, METRICS/TABLE/NAME.csv, by K and type.

    METRICS/replicates/ has the same of each replicate alone.

    The mean of a type is an estimate over all its samples in all replicates, from the samples that were measured and
    their weights; its standard error counts how replicates differ (METRICS/dispersion/NAME.csv). Beside it stands the
    mean over the samples nearest by the distance that defines the type, as in the paper.
    """
    run, dispersions, measured, replicates = Run(metrics, data=data), [], 0, 1
    types = {size: (run.codes(name, size), *run.distances(name, size)) for size in run.sizes(name)}
    for kind, quantity in quantities().items():
        parts: dict[str, list[pd.DataFrame]] = {table: [] for table in quantity.tables}
        alone = []
        for size, of_samples in types.items():
            path = data / kind / name / f"{size}.safetensors"
            if (measurements := run.measurements(kind, name, size)) is None:
                raise ValueError(f"{path}: no such file; python src/main.py {kind} writes it")
            arrays, record = measurements
            try:
                members = kinds(*of_samples, arrays, size, settings.limit, settings.rare)
                for table, (make, _) in quantity.tables.items():
                    parts[table].append(make(size, arrays, record, members))
                numbers = np.unique(arrays["replicate"])
                for number in numbers:
                    rows = quantity.tables[kind][0](size, arrays, record, single(members, number))
                    dropped = [column for column in rows if column.endswith(DROPPED)]
                    alone.append(rows.drop(columns=[*dropped, "replicates", "total"]).assign(replicate=number))
            except KeyError as error:
                raise ValueError(f"{path}: no {error}; python src/main.py {kind} writes such a file") from None
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            measured, replicates = measured + len(arrays["numbers"]), max(replicates, len(numbers))
        for table, (_, keys) in quantity.tables.items():
            joined, phi = with_replicates(pd.concat(parts[table], ignore_index=True), keys)
            write_csv(metrics / table / f"{name}.csv", joined)
            dispersions.append(phi.assign(table=table))
        write_csv(metrics / "replicates" / kind / f"{name}.csv", pd.concat(alone, ignore_index=True))
    write_csv(metrics / "dispersion" / f"{name}.csv", pd.concat(dispersions, ignore_index=True))
    several = f", up to {replicates} replicates" if replicates > 1 else ""
    tables = ", ".join(table for quantity in quantities().values() for table in quantity.tables)
    click.echo(f"{metrics}: {tables} of {name}, {len(types)} sizes{several}, {measured} measurements by type")
