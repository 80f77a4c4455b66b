"""Join the types of samples with what was measured of them: tables of basins, spectra and energies by type and K."""

from pathlib import Path

import click
import pandas as pd

from attractors.arrays import read_arrays
from attractors.cli.stage import stage
from attractors.results.joined import basin_table, curvature_table, energy_table, kinds, spectra_table
from attractors.results.run import Run
from attractors.settings.join import Joining
from attractors.tables import write_csv

TABLES = {  # table: (folder of measurements, function that makes it)
    "basin": ("basin", basin_table),
    "curvature": ("curvature", curvature_table),
    "spectra": ("curvature", spectra_table),
    "energy": ("energy", energy_table),
}


@stage("join", settings=Joining)
@click.argument("name")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), default="data",
              help="Folder of types, neighbours and measurements.")  # fmt: skip
@click.option("--metrics", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of tables.")
def main(name: str, data: Path, metrics: Path, settings: Joining) -> None:
    """Write METRICS/{basin,curvature,spectra,energy}/NAME.csv of the sweep NAME, with one row for each K and type.

    The mean of a type is an estimate over all its samples, from the samples that were measured and their weights.
    Beside it stands the mean over the samples nearest by the distance that defines the type, as in the paper.
    """
    run = Run(metrics, data=data)
    parts = {table: [] for table in TABLES}
    measured = 0
    for size in run.sizes(name):
        codes, distances = run.codes(name, size), run.distances(name, size)
        files = {}
        for table, (folder, make) in TABLES.items():
            path = data / folder / name / f"{size}.safetensors"
            if folder not in files:
                arrays, record = read_arrays(path)
                if record.get("size") != size:
                    raise ValueError(f"{path}: measurements at K = {record.get('size')}, not at {size}")
                try:
                    files[folder] = (
                        arrays,
                        record,
                        kinds(codes, *distances, arrays, size, settings.limit, settings.rare),
                    )
                except (KeyError, ValueError) as error:
                    raise ValueError(f"{path}: {error}") from None
                measured += len(arrays["numbers"])
            try:
                parts[table].append(make(size, *files[folder]))
            except KeyError as error:
                raise ValueError(f"{path}: no {error}; python src/main.py {folder} writes such a file") from None
    for table, found in parts.items():
        write_csv(metrics / table / f"{name}.csv", pd.concat(found, ignore_index=True))
    click.echo(f"{metrics}: {', '.join(TABLES)} of {name}, {len(found)} sizes, {measured} measurements by type")


if __name__ == "__main__":
    main()
