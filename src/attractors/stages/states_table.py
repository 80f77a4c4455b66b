"""What the spurious samples of a sweep are: where denoising leads them, how often they repeat, which are blends."""

from pathlib import Path
from typing import Any

import click
import pandas as pd

from attractors.arrays import read_arrays, read_record
from attractors.cli.stage import stage
from attractors.data.images import read_images
from attractors.data.training_sets import training_path
from attractors.distances.neighbours import nearest
from attractors.distances.thresholds import copy_bound
from attractors.results.run import Run
from attractors.results.states import blends_table, ends_table, repetition_tables, states_row
from attractors.settings.states import StatesTable
from attractors.tables import write_csv


@stage("states_table", settings=StatesTable)
@click.argument("name")
@click.option("--dataset", required=True, help="Name of the dataset, whose orders are in DATA/subsets.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), default="data",
              help="Folder of subsets, synthetic sets, neighbours, types and the census.")
@click.option("--metrics", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of tables.")
def main(name: str, dataset: str, data: Path, metrics: Path, settings: StatesTable) -> None:
    """Write METRICS/{ends,attractors,repetition,rarefaction,blends}/NAME.csv, rows for each K and replicate of NAME.

    Distances are those of pixels. A point is at another where it lies within delta_m, and samples repeat each other
    within delta_s, the thresholds of the sweep at that K; of a sweep whose distance is LPIPS, both are a quarter of the
    distance of pixels between neighbouring images of S.
    """
    run = Run(metrics, data=data)
    tables: dict[str, list[pd.DataFrame]] = {key: [] for key in ("ends", "attractors", "repetition", "rarefaction",
                                                                 "blends")}
    for size in run.sizes(name):
        codes, owner = run.codes(name, size), run.replicate(name, size)
        record = read_record(data / "types" / name / f"{size}.safetensors")
        delta_m, delta_s = record["delta_m"], record["delta_s"]
        for number, path in run.files("neighbours", name, size).items():
            own, key = codes[owner == number], {"K": size, "replicate": number}
            images = read_images(training_path(data / "subsets", dataset, number, size,
                                               read_record(path).get("training_sha256")))
            samples, s = read_images(data / "synthetic" / name / path.name), images[:size]
            if read_record(path).get("distance") != "l2":
                flat = s.reshape(size, -1)
                delta_m = delta_s = copy_bound(nearest(flat, flat, 1, True)[0][:, 0].numpy())
            arrays, _ = read_arrays(data / "census" / name / path.name)
            n = len(arrays["ends"])
            row, curve = repetition_tables(samples, own, delta_s)
            made: dict[str, Any] = {
                "ends": ends_table(arrays, samples[:n], own[:n], s, delta_m),
                "attractors": pd.DataFrame([states_row(arrays, s, delta_m, settings.blends)]),
                "repetition": pd.DataFrame([row]), "rarefaction": curve,
                "blends": blends_table(samples, own, images, size, delta_m, settings.blends),
            }
            for kind, table in made.items():
                tables[kind].append(pd.concat([pd.DataFrame([key] * len(table), table.index), table], axis=1))
    joined = {kind: pd.concat(parts, ignore_index=True) for kind, parts in tables.items()}
    for kind, table in joined.items():
        write_csv(metrics / kind / f"{name}.csv", table)
    spurious = joined["ends"][joined["ends"].type == "spurious"].groupby("K")[["n", "stayed", "at_training"]].mean()
    click.echo(spurious.to_string(float_format="%.3f"))
    click.echo(f"{metrics}: {', '.join(joined)} of {name}")
