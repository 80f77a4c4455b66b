"""The basins of attraction of one run: critical times (Alg. 1) and log-volumes (Eqs. 12, 34) of samples and of S."""

import math

import click
import numpy as np
import torch

from attractors.cli.devices import device_option, find_device
from attractors.cli.settings import ROOT
from attractors.cli.stage import out_option, seed_of_replicate, stage
from attractors.distances.lpips_embedding import read_embedding
from attractors.landscape.basin import critical_times, euclidean, evaluations, search_times
from attractors.landscape.measuring import Results
from attractors.landscape.patterns import inputs, measure_patterns, read_patterns, summary
from attractors.landscape.summaries import log_volume
from attractors.settings.basin import Basin, Search

LPIPS = ROOT / "models" / "lpips" / "vgg.safetensors"
CHUNK = 128  # patterns that are searched between two states from which a killed run goes on


@stage("basin", sweep=True, settings=Basin, search=Search)
@inputs
@click.option(
    "--lpips",
    type=click.Path(dir_okay=False),
    default=LPIPS,
    help="LPIPS weights.",
    show_default="models/lpips/vgg.safetensors",
)
@seed_of_replicate
@device_option
@out_option
def main(
    sweep: dict | None,
    model: str,
    neighbours: str,
    synthetic: str,
    subset: str,
    lpips: str,
    seed: int,
    device: str,
    out: str,
    settings: Basin,
    search: Search,
) -> None:
    """Find the critical times of training images, and of samples of S' that are chosen by their distances alone.

    --out holds t_c and radius of every trial, and the log-volume of every pattern: the mean over its recovered trials.
    """
    device = find_device(device)
    patterns = read_patterns(model, neighbours, synthetic, subset, settings, seed, device)
    times = len(search_times(patterns.model.steps, search.stride))
    dimensions, measure = math.prod(patterns.images.shape[1:]), euclidean
    if settings.distance == "lpips_vgg":
        embedding = read_embedding(lpips, device)
        if embedding.backbone != "vgg":
            raise ValueError(f"{lpips}: weights of {embedding.backbone}; --distance lpips_vgg needs those of vgg")
        measure = embedding.distance

    def search_basins(numbers: np.ndarray) -> Results:
        found = critical_times(
            patterns.model, patterns.tensor(numbers), numbers, seed, distance=measure, **search.model_dump()
        )
        logs = torch.from_numpy(log_volume(found.radius.numpy(), dimensions))
        logs[found.t_c == 0] = math.nan  # no ball
        return {
            "t_c": found.t_c.numpy(), "radius": found.radius.numpy(), "log_volume": logs.nanmean(1).numpy(),
            "searched": found.searched.numpy(),
        }

    found = measure_patterns(
        out, __file__, patterns, search_basins, lambda results: [results["log_volume"][:, None]], CHUNK,
        settings.standard_error, f"basin {sweep['name'] if sweep else ''} K={patterns.size}",
        distance=settings.distance, times=times, **search.model_dump(),
    )
    used, together, full = evaluations(found.results["searched"], search.trials, search.steps, times)
    click.echo(
        f"{out}: {summary(patterns, found)}; {used:,} network evaluations, {1 - used / together:.0%} fewer than if all "
        f"searches stopped together, {1 - used / full:.0%} than if none stopped"
    )


if __name__ == "__main__":
    main()
