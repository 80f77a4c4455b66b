"""How good the samples of a sweep of photographs are, and whether their types hang on the distance (B.2)."""

from pathlib import Path

import click
import numpy as np
import pandas as pd

from attractors.arrays import read_record
from attractors.cli.progress import progress
from attractors.cli.settings import ROOT
from attractors.cli.stage import data_option, metrics_option, seed_option, stage
from attractors.data.images import read_images
from attractors.data.training_sets import training_path
from attractors.distances.detection import DISTANCES
from attractors.distances.lpips_embedding import read_embedding
from attractors.distances.neighbours import nearest
from attractors.distances.thresholds import copy_bound
from attractors.randomness import QUALITY, generator
from attractors.results.paper import TABLE_2
from attractors.results.quality import gaussian, quality, types_by
from attractors.results.run import Run
from attractors.settings.quality import Quality
from attractors.tables import write_csv

ALEX = "lpips_alex"


@stage("quality", sweep="required", settings=Quality)
@click.option("--lpips", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "models" / "lpips",
              help="Folder of LPIPS weights.")
@seed_option
@data_option
@metrics_option
def main(sweep: dict, lpips: Path, seed: int, data: Path, metrics: Path, settings: Quality) -> None:
    """Write METRICS/quality/SWEEP.csv and METRICS/distances/SWEEP.csv of the samples in DATA/synthetic/SWEEP.

    Quality is that of `copies`, samples within a quarter of the spacing of S by LPIPS (AlexNet), and of the `others`,
    beside real images that no network was trained on, other such images (`held_out`), S (`training`), and draws from a
    Gaussian with the mean and the covariance of S, which has no objects. Distances are
    the fractions of the types by L2, LPIPS of AlexNet and LPIPS of VGG, each with automatic thresholds, and by the
    first LPIPS with the least and the greatest thresholds of Table 2. No threshold of params.yaml changes either.
    """
    name, dataset, run = sweep["name"], sweep["dataset"], Run(metrics, data=data)
    limits = zip(*TABLE_2[f"{dataset}-128"], strict=True) if f"{dataset}-128" in TABLE_2 else ()
    ranges = dict(zip(("least", "greatest"), limits, strict=False))
    networks = {distance: read_embedding(lpips / f"{backbone}.safetensors", backbone=backbone)
                for distance, backbone in DISTANCES.items() if backbone}

    def features(distance: str, images: np.ndarray) -> np.ndarray:
        if distance not in networks:
            return images.reshape(len(images), -1)
        return np.concatenate([block.cpu().numpy() for block in networks[distance].batches(images)])

    sizes = [size for size in run.sizes_in("synthetic", name) if size <= settings.largest]
    files = [(size, *file) for size in sizes for file in run.files("synthetic", name, size).items()]
    if not files:
        raise ValueError(f"{data / 'synthetic' / name}: no samples at K <= {settings.largest}")
    rows, shares = [], []
    for size, number, path in progress(files, f"quality {name}", "model"):
        training_hash = read_record(data / "neighbours" / name / path.name).get("training_sha256")
        images = read_images(training_path(data / "subsets", dataset, number, size, training_hash))
        if len(images) < size + 2 * settings.images:
            raise ValueError(f"{dataset}: {len(images) - size} images beyond K = {size}; quality needs twice --images")
        held_out, real = images[-2 * settings.images :].reshape(2, settings.images, *images.shape[1:])
        sets = {"samples": read_images(path)[: settings.samples], "training": images[:size],
                "held_out": held_out, "real": real}
        sets["gaussian"] = gaussian(sets["training"], settings.images, generator(seed, QUALITY, size << 32 | number))
        key = {"K": size, "replicate": number}
        for distance in DISTANCES:
            samples, memories = (features(distance, sets[part]) for part in ("samples", "training"))
            given = ranges if distance == ALEX else {}
            types = types_by(samples, memories, given, squared=distance != "l2")
            shares += [key | {"distance": distance} | row for row in types]
        vectors = {part: features(ALEX, values) for part, values in sets.items()}
        spacing, to_training = (
            nearest(vectors[part], vectors["training"], 1, part == "training", squared=True)[0][:, 0].numpy()
            for part in ("training", "samples")
        )
        copies = to_training <= copy_bound(spacing)
        groups = {"copies": ("samples", copies), "others": ("samples", ~copies)}
        groups |= {part: (part, np.ones(len(sets[part]), bool)) for part in ("gaussian", "training", "held_out")}
        rows += [
            key | {"group": group, "n": int(chosen.sum())}
            | quality(sets[part][chosen], vectors[part][chosen], sets["real"], vectors["real"])
            for group, (part, chosen) in groups.items() if chosen.sum() > 1
        ]
    write_csv(metrics / "quality" / f"{name}.csv", pd.DataFrame(rows))
    write_csv(metrics / "distances" / f"{name}.csv", pd.DataFrame(shares))
    click.echo(f"{metrics}/quality/{name}.csv, {metrics}/distances/{name}.csv: {len(files)} models")
