"""The types of samples along the training of one network, and its denoising errors: is the transition one of time?"""

from typing import Any

import click
import numpy as np

from attractors.arrays import array_hash, array_shape, read_arrays, read_record, write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.data.images import read_images
from attractors.denoisers.snapshots import drawn, models_along
from attractors.devices import to_device
from attractors.distances.detection import TYPES
from attractors.distances.neighbours import nearest
from attractors.distances.thresholds import copy_bound
from attractors.randomness import PROBES, generator
from attractors.settings.states import Phase
from attractors.states.controls import described
from attractors.yardsticks.denoising import denoising_errors, level_times


@stage("phase", sweep=True, settings=Phase)
@click.argument("trainings", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option("--subset", type=click.Path(dir_okay=False), required=True, help="The images that all were trained on.")
@seed_option
@device_option
@out_option
def main(
    sweep: dict | None, trainings: tuple[str, ...], subset: str, seed: int, device: Any, out: str, settings: Phase
) -> None:
    """Draw samples from the snapshots of each of TRAININGS on images of SUBSET, and find their types and errors.

    --out holds for each training and step the shares `memorized`, `spurious` and `generalized`, with a quarter of the
    median spacing of S for both thresholds, `C_2` of those that are not memorized with its standard error, and the mean
    squared errors of denoising images of S (`error`) and the last images of SUBSET (`held_out`), both means over noise
    levels. `parameters` is the number of those of the network.
    """
    device, whole, rows = find_device(device), read_images(subset), []
    for path in trainings:
        record = read_record(path)
        s = np.ascontiguousarray(whole[record["skip"] : record["skip"] + record["size"]])
        others = np.ascontiguousarray(whole[-settings.images :])
        if array_hash(s) != record["subset_sha256"] or record["skip"] + len(s) + len(others) > len(whole):
            raise ValueError(f"{path}: trained on other images than those of {subset}, or too few are left beside them")
        delta = copy_bound(nearest(s.reshape(len(s), -1), s.reshape(len(s), -1), 1, True)[0][:, 0].cpu().numpy())
        groups = {"error": to_device(s[: settings.images], device), "held_out": to_device(others, device)}
        draws = [generator(seed, PROBES, i).standard_normal(s.shape[1:], np.float32) for i in range(settings.images)]
        noise = to_device(np.stack(draws), device)
        row: list[dict[str, float]] = []
        total = array_shape(path, "steps")[0]
        for model in progress(models_along(path, s, device), f"phase of {path}", "snapshot", total=total):
            times = level_times(model.alpha_bar, settings.levels)
            samples = drawn(model, settings.samples, seed, s.shape[1:], settings.batch)
            row.append(described(samples, s, delta) | {
                key: float(denoising_errors(model, x, noise[: len(x)], times, settings.batch).mean())
                for key, x in groups.items()
            })
        rows.append(row)
    steps, record = read_arrays(trainings[0], "steps")
    arrays = {key: np.array([[point[key] for point in row] for row in rows]) for key in rows[0][0]}
    parameters = sum(p.numel() for p in model.parameters())
    write_arrays(out, arrays | steps, size=record["size"], seed=seed, delta=delta, parameters=parameters,
                 settings=settings.model_dump(), subset_sha256=array_hash(whole))
    shares = ", ".join(f"{arrays[kind][:, -1].mean():.3f} {kind}" for kind in TYPES)
    click.echo(f"{out}: K = {record['size']}, {len(rows)} trainings: {shares} at the end")
