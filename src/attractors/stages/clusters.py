"""Test whether spurious states are real: groups of spurious samples that repeat each other, far from S."""

from pathlib import Path
from typing import Any

import click
import pandas as pd

from attractors.arrays import read_record
from attractors.cli.stage import data_option, metrics_option, out_option, stage
from attractors.data.images import read_images
from attractors.data.training_sets import training_images
from attractors.distances.clusters import compare_groups, euclidean, perceptual
from attractors.distances.detection import DISTANCES
from attractors.results.run import Run
from attractors.tables import write_json


@stage("clusters")
@click.argument("name")
@click.option("--dataset", required=True, help="Name of the dataset, whose orders are in DATA/subsets.")
@click.option("--lpips", type=click.Path(dir_okay=False), help="LPIPS weights, for a sweep whose distance is LPIPS.")
@click.option("--limit", type=click.IntRange(3), default=2048, help="Spurious samples: those that repeat most closely.")
@data_option
@metrics_option
@out_option
def main(name: str, dataset: str, lpips: str | None, limit: int, data: Path, metrics: Path, out: str) -> None:
    """Cluster the spurious samples of sweep NAME at the K with the most of them, by the distance of the sweep.

    A spurious state is an attractor of its own if its samples are closer to each other than to any training image.
    `share` is the share of spurious samples that are in groups farther from S than they are wide. What chance gives is
    measured by as many generalized samples (`compare_groups`). `looks` compares the first LIMIT samples of each type
    with the training images: averages of these are less sharp and nearer to their mean.
    """
    run = Run(metrics, data=data)
    size = int(run.peak(name).K)
    codes, (to_training, within), owner = run.codes(name, size), run.distances(name, size), run.replicate(name, size)
    if not len(codes) == len(within):
        raise ValueError(f"{data}: {len(codes)} types and {len(within)} distances of {name}")
    types = data / "types" / name / f"{size}.safetensors"
    delta_s = read_record(types).get("delta_s")
    rows: list[dict[str, Any]] = []
    tables = []
    for number, path in run.files("neighbours", name, size).items():
        record, chosen = read_record(path), owner == number
        distance = record.get("distance")
        if distance not in list(DISTANCES) or not isinstance(delta_s, float):
            raise ValueError(f"{path}, {types}: no distance of the sweep, or no delta_s, in their records")
        if (backbone := DISTANCES[distance]) and not lpips:
            raise click.BadParameter(f"needed for distances by {distance}", param_hint="--lpips")
        distances = perceptual(str(lpips), backbone) if backbone else euclidean
        images = read_images(data / "synthetic" / name / path.name)
        if len(images) != chosen.sum():
            raise ValueError(f"{data}: {chosen.sum()} distances and {len(images)} images of {name}")
        training = training_images(data / "subsets", dataset, number, size, record.get("training_sha256"))
        numbers, table = compare_groups(
            images, codes[chosen], to_training[chosen], within[chosen], training, delta_s, limit, distances
        )
        rows.append({"replicate": number, **numbers})
        tables.append(table.assign(replicate=number))
    table = pd.concat(tables).sort_values(["size", "diameter"], ascending=[False, True], ignore_index=True)
    largest = table.head(40).astype({"size": float}).round(4).to_dict("records")
    summed = ("spurious", "clusters", "samples_in_clusters", "clusters_farther_from_training_than_wide")
    total = {key: sum(int(row[key] or 0) for row in rows) for key in summed}
    write_json(out, {"K": size, "delta_s": delta_s, **total, "replicates": rows, "largest": largest})
    click.echo(pd.DataFrame(rows).drop(columns="looks").to_string(index=False))
    click.echo(f"{out}: {len(table)} clusters of 3 or more among {total['spurious']} spurious samples at K={size}")
