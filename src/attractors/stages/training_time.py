"""Samples along the training of two networks on disjoint images: how many are copies, how near they are to the data."""

from typing import Any

import click
import numpy as np
import torch

from attractors.arrays import array_hash, read_arrays, write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.data.images import read_images
from attractors.denoisers.snapshots import drawn, models_along
from attractors.distances.neighbours import nearest
from attractors.settings.yardsticks import Drawing
from attractors.yardsticks.agreement import cosines, nearest_cosines
from attractors.yardsticks.ratio import distance_ratio, is_memorized
from attractors.yardsticks.training_time import frechet_distance


def samples_along(
    path: str, images: np.ndarray, seed: int, settings: Drawing, device: torch.device
) -> tuple[np.ndarray, dict]:
    """Return the samples of every snapshot in a file, [m, n, C, H, W], and its record with the steps among it."""
    steps, record = read_arrays(path, "steps")
    shape, total = tuple(record["image_shape"]), len(steps["steps"])
    models = progress(models_along(path, images, device), f"samples along {path}", "snapshot", total=total)
    return np.stack([drawn(model, settings.samples, seed, shape, settings.batch) for model in models]), record | steps


@stage("training_time", sweep=True, settings=Drawing)
@click.argument("first", type=click.Path(dir_okay=False))
@click.argument("second", type=click.Path(dir_okay=False))
@click.option("--subset", type=click.Path(dir_okay=False), required=True, help="The images that both were trained on.")
@seed_option
@device_option
@out_option
def main(
    sweep: dict | None, first: str, second: str, subset: str, seed: int, device: Any, out: str, settings: Drawing
) -> None:
    """Draw samples from the snapshots FIRST and SECOND of two networks that were trained on disjoint images of SUBSET.

    Both start from the same noise, and get the same noise at each step. OUT holds, for each network and step, the
    share that is memorized by the ratio d1 / d2 < 1/3 and the Frechet distance to the images that neither was trained
    on; and of the last samples the cosine between both networks, and with the nearest image of each one's own.
    """
    device = find_device(device)
    whole = read_images(subset)
    parts = [samples_along(path, whole[:1], seed, settings, device) for path in (first, second)]
    spans = [(record["skip"], record["skip"] + record["size"]) for _, record in parts]
    sets = [whole[start:stop] for start, stop in spans]
    for path, (_, record), images in zip((first, second), parts, sets, strict=True):
        if array_hash(images) != record["subset_sha256"]:
            raise ValueError(f"{path}: trained on other images than those of {subset}")
    if spans[0][1] > spans[1][0] or parts[0][1]["steps"].tolist() != parts[1][1]["steps"].tolist():
        raise ValueError(f"{first}, {second}: trained on images that overlap, or for other numbers of steps")
    others = whole[spans[1][1] :]
    if len(others) < 2:
        raise ValueError(f"{subset}: holds {len(whole)} images; none is left beside the {spans[1][1]} trained on")
    arrays: dict[str, Any] = {"steps": parts[0][1]["steps"], "memorized": [], "frechet": [], "closeness": []}
    centre = whole.mean(0, dtype=np.float64)
    for (samples, _), images in zip(parts, sets, strict=True):
        flat = images.reshape(len(images), -1)
        pairs = [nearest(x.reshape(len(x), -1), flat, 2, device=device)[0].cpu().numpy() for x in samples]
        arrays["memorized"].append([is_memorized(distance_ratio(distances)).mean() for distances in pairs])
        arrays["frechet"].append([frechet_distance(x, others) for x in samples])
        arrays["closeness"].append(nearest_cosines(samples[-1], images, centre))
    arrays = {name: np.asarray(values) for name, values in arrays.items()}
    arrays["agreement"] = cosines(parts[0][0][-1], parts[1][0][-1], centre)
    size = spans[0][1] - spans[0][0]
    write_arrays(out, arrays, size=size, seed=seed, samples=settings.samples, subset_sha256=array_hash(whole))
    words = f"agreement {arrays['agreement'].mean():.3f}, closeness {arrays['closeness'].mean():.3f}"
    click.echo(f"{out}: K = {size}, {arrays['memorized'][:, -1].mean():.3f} memorized at the end; {words}")
