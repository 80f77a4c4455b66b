"""Join the types of samples with what was measured of them: tables of basins, spectra and energies by type and K."""

from pathlib import Path

import click
import numpy as np
import pandas as pd

from attractors.cli.stage import stage
from attractors.results.joined import (
    basin_table,
    curvature_table,
    energy_table,
    kinds,
    single,
    spectra_table,
    with_replicates,
)
from attractors.results.run import Run
from attractors.settings.join import Joining
from attractors.tables import write_csv

TABLES = {  # table: (folder of measurements, function that makes it, what its dispersion is found for one by one)
    "basin": ("basin", basin_table, ["type"]),
    "curvature": ("curvature", curvature_table, ["type", "method"]),
    "spectra": ("curvature", spectra_table, ["type", "method"]),
    "energy": ("energy", energy_table, ["type"]),
}
SINGLE = ("basin", "curvature", "energy")  # tables that are also written for each replicate alone
DROPPED = ("_std", "_between", "_nearest", "_nearest_se")  # ends of the columns that these do not have


@stage("join", settings=Joining)
@click.argument("name")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), default="data",
              help="Folder of types, neighbours and measurements.")
@click.option("--metrics", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of tables.")
def main(name: str, data: Path, metrics: Path, settings: Joining) -> None:
    """Write METRICS/{basin,curvature,spectra,energy}/NAME.csv of the sweep NAME, with one row for each K and type.

    METRICS/replicates/ has the same of each replicate alone.

    The mean of a type is an estimate over all its samples in all replicates, from the samples that were measured and
    their weights; its standard error counts how replicates differ (METRICS/dispersion/NAME.csv). Beside it stands the
    mean over the samples nearest by the distance that defines the type, as in the paper.
    """
    run = Run(metrics, data=data)
    parts: dict[str, list[pd.DataFrame]] = {table: [] for table in TABLES}
    alone: dict[str, list[pd.DataFrame]] = {table: [] for table in SINGLE}
    measured, replicates = 0, 1
    for size in run.sizes(name):
        codes, distances = run.codes(name, size), run.distances(name, size)
        files = {}
        for table, (folder, make, _) in TABLES.items():
            if folder not in files:
                path = data / folder / name / f"{size}.safetensors"
                found = run.measurements(folder, name, size)
                if found is None:
                    raise ValueError(f"{path}: no such file; python src/main.py {folder} writes it")
                try:
                    files[folder] = *found, kinds(codes, *distances, found[0], size, settings.limit, settings.rare)
                except ValueError as error:
                    raise ValueError(f"{path}: {error}") from None
                measured += len(found[0]["numbers"])
                replicates = max(replicates, len(np.unique(found[0]["replicate"])))
            try:
                arrays, record, of_types = files[folder]
                parts[table].append(make(size, arrays, record, of_types))
                for number in np.unique(arrays["replicate"]) if table in SINGLE else ():
                    rows = make(size, arrays, record, single(of_types, number))
                    dropped = [column for column in rows if column.endswith(DROPPED)]
                    alone[table].append(rows.drop(columns=[*dropped, "replicates", "total"]).assign(replicate=number))
            except KeyError as error:
                raise ValueError(f"{path}: no {error}; python src/main.py {folder} writes such a file") from None
    dispersions = []
    for table, (_, _, keys) in TABLES.items():
        joined, phi = with_replicates(pd.concat(parts[table], ignore_index=True), keys)
        write_csv(metrics / table / f"{name}.csv", joined)
        dispersions.append(phi.assign(table=table))
    write_csv(metrics / "dispersion" / f"{name}.csv", pd.concat(dispersions, ignore_index=True))
    for table, rows in alone.items():
        write_csv(metrics / "replicates" / table / f"{name}.csv", pd.concat(rows, ignore_index=True))
    several = f", up to {replicates} replicates" if replicates > 1 else ""
    sizes = f"{len(parts['basin'])} sizes{several}"
    click.echo(f"{metrics}: {', '.join(TABLES)} of {name}, {sizes}, {measured} measurements by type")


if __name__ == "__main__":
    main()
