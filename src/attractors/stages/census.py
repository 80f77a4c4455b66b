"""The census of attractors of one run: fixed points of denoising, reached from its samples."""

import click
import numpy as np
import torch

from attractors.arrays import array_hash, write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_of_replicate, stage
from attractors.data.images import read_images
from attractors.denoisers.models import read_model
from attractors.files import file_hash
from attractors.landscape.patterns import check_time
from attractors.settings.states import Census
from attractors.states.fixed_points import descend, largest_eigenvalues, merge, retrieval, return_rates
from attractors.states.mixtures import KINDS, blend_kinds


@stage("census", sweep=True, settings=Census)
@click.option("--model", type=click.Path(dir_okay=False), required=True, help="The trained model.")
@click.option("--synthetic", type=click.Path(), required=True, help="The synthetic set S'.")
@click.option("--subset", type=click.Path(), required=True, help="Images in subset order: S is the first K.")
@click.option("--delta", type=float, required=True, help="Distance within which two points are one state.")
@seed_of_replicate
@device_option
@out_option
def main(
    sweep: dict | None, model: str, synthetic: str, subset: str, delta: float, seed: int, device: str, out: str,
    settings: Census,
) -> None:
    """Iterate x <- E[x_0 | sqrt(alpha_bar_t) x] from the first samples of S' to fixed points, and describe these.

    --out holds of each start: the `ends`, the `taken` steps, whether it is `moving` still, its `state` (-1: moving),
    and whether it `stayed` within --delta of the start. Of each state: its `states` image, the number of starts in its
    `mass`, its kind (`kinds`, codes of training image, blend of two, of three, other), and of the most frequent the
    largest `eigenvalues` of the symmetrized Jacobian, stable below 1, and the `returns` after noise.
    """
    network, record = read_model(model, find_device(device))
    check_time(settings.t, network, model)
    s, starts = read_images(subset, record["size"]), read_images(synthetic)[: settings.starts]
    step, place, parts = retrieval(network, settings.t), network.alpha_bar.device, []
    blocks = range(0, len(starts), settings.batch)
    for start in progress(blocks, f"census {sweep['name'] if sweep else ''} K={len(s)}", "block"):
        x = torch.from_numpy(np.ascontiguousarray(starts[start : start + settings.batch])).to(place)
        parts.append(descend(step, x, settings.tolerance, settings.steps))
    ends, taken, moving = (torch.cat(values).cpu().numpy() for values in zip(*parts, strict=True))
    state = np.full(len(ends), -1)
    state[~moving] = merge(ends[~moving], delta) if (~moving).any() else state[~moving]
    first = [int(np.flatnonzero(state == i)[0]) for i in range(state.max() + 1)]
    chosen = torch.from_numpy(ends[first[: settings.states]]).to(place)
    group = max(1, settings.batch // s[0].size)
    values = [largest_eigenvalues(step, x, settings.batch).cpu().numpy() for x in chosen.split(group) if len(x)]
    kinds = blend_kinds(ends[first], s, delta)
    stayed = np.linalg.norm((ends - starts).reshape(len(starts), -1), axis=1) <= delta
    arrays = {
        "ends": ends, "taken": taken, "moving": moving, "state": state, "stayed": stayed, "states": ends[first],
        "mass": np.bincount(state[state >= 0], minlength=len(first)), "kinds": kinds,
        "eigenvalues": np.concatenate(values) if values else np.empty(0),
        "returns": return_rates(
            network, chosen, settings.t, seed, delta, settings.trials, settings.tolerance, settings.steps
        ).cpu().numpy(),
    }
    described = {"size": len(s), "seed": seed, "delta": delta, "settings": settings.model_dump()}
    hashes = {"model_sha256": file_hash(model), "synthetic_sha256": array_hash(starts)}
    write_arrays(out, arrays, **described, **hashes)
    counts = ", ".join(f"{(kinds == code).sum()} {name}" for code, name in enumerate(KINDS))
    mass = ", ".join(f"{arrays['mass'][kinds == code].sum()} {name}" for code, name in enumerate(KINDS))
    stable = (arrays["eigenvalues"] < 1).sum()
    click.echo(
        f"{out}: K = {len(s)}, t = {settings.t}: {len(first)} states ({counts}; starts: {mass}), {moving.sum()} of "
        f"{len(starts)} starts still moving, {stayed.mean():.3f} stayed; {stable} of {len(chosen)} states stable"
    )
