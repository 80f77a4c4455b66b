"""The census of attractors of a sweep: the fixed points of denoising that are reached from its samples."""

from pathlib import Path

import click
import numpy as np
import torch

from attractors.arrays import read_record, write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import seed_option, stage
from attractors.data.images import read_images
from attractors.data.training_sets import training_images
from attractors.denoisers.models import read_model
from attractors.distances.neighbours import nearest
from attractors.distances.thresholds import copy_bound
from attractors.landscape.patterns import check_time
from attractors.results.run import Run
from attractors.settings.states import Census
from attractors.states.fixed_points import descend, largest_eigenvalues, merge, retrieval, return_rates


def census(model: str, starts: np.ndarray, s: np.ndarray, seed: int, device: torch.device, settings: Census) -> dict:
    """Return the arrays of one model that DATA/census holds. starts: [n, C, H, W] of S'. s: [K, C, H, W]."""
    network, _ = read_model(model, device)
    check_time(settings.t, network, model)
    step, place = retrieval(network, settings.t), network.alpha_bar.device
    x = torch.from_numpy(np.ascontiguousarray(starts)).to(place)
    parts = [descend(step, part, settings.tolerance, settings.steps) for part in x.split(settings.batch)]
    ends, taken, moving = (torch.cat(values).cpu().numpy() for values in zip(*parts, strict=True))
    flat = s.reshape(len(s), -1)
    radius = copy_bound(nearest(flat, flat, 1, True)[0][:, 0].cpu().numpy())
    state = np.full(len(ends), -1)
    state[~moving] = merge(ends[~moving], radius)
    first = np.unique(state, return_index=True)[1][int((state < 0).any()) :]
    chosen = torch.from_numpy(ends[first[: settings.states]]).to(place)
    group = max(1, settings.batch // s[0].size)
    groups = chosen.split(group) if len(chosen) else ()  # no state where all starts still move
    values = [largest_eigenvalues(step, part, settings.batch).cpu().numpy() for part in groups]
    limits = settings.trials, settings.tolerance, settings.steps
    returns = return_rates(network, chosen, settings.t, seed, radius, *limits)
    return {
        "ends": ends, "taken": taken, "moving": moving, "state": state, "states": ends[first],
        "mass": np.bincount(state[state >= 0], minlength=len(first)),
        "eigenvalues": np.concatenate(values) if values else np.empty(0), "returns": returns.cpu().numpy(),
    }


@stage("census", sweep="required", settings=Census)
@click.argument("models", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), default="data",
              help="Folder of synthetic sets and subsets.")
@seed_option
@device_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to write.")
def main(sweep: dict, models: Path, data: Path, seed: int, device: str, out: Path, settings: Census) -> None:
    """Iterate x <- E[x_0 | sqrt(alpha_bar_t) x] from the first samples of each S' to fixed points of each of MODELS.

    MODELS is the folder of a sweep. OUT/K.safetensors, K-R.safetensors for replicate R, hold of each start: the `ends`,
    the `taken` steps, whether it is `moving` still, and its `state` (-1: moving), one where steps of a quarter of the
    spacing of S lead from end to end. Of each state: its `states` image, the number of starts in its `mass`, and of the
    most frequent the largest `eigenvalues` of the symmetrized Jacobian, stable below 1, and the share of `returns`
    after noise.
    """
    name, run, place = sweep["name"], Run(Path(), data=data), find_device(device)
    sizes = run.sizes_in("synthetic", name)
    files = [(size, *file) for size in sizes for file in run.files("synthetic", name, size).items()]
    if not files:
        raise ValueError(f"{data / 'synthetic' / name}: no samples; python src/main.py sample draws them")
    for size, number, path in progress(files, f"census {name}", "model"):
        model = models / path.name
        s = training_images(data / "subsets", sweep["dataset"], number, size, read_record(model).get("subset_sha256"))
        starts = read_images(path)[: settings.starts]
        arrays = census(str(model), starts, s, seed + number, place, settings)
        write_arrays(out / path.name, arrays, size=size, seed=seed + number,
                     settings=settings.model_dump())
        states, moving, stable = len(arrays["mass"]), arrays["moving"].sum(), (arrays["eigenvalues"] < 1).sum()
        click.echo(f"K = {size}, replicate {number}: {states} states of {len(starts)} starts, {moving} still moving; "
                   f"{stable} of the {len(arrays['eigenvalues'])} most frequent states are stable")
