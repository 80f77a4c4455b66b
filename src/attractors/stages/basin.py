"""The basins of attraction of one run: critical times (Alg. 1) and log-volumes (Eqs. 12, 34) of samples and of S."""

import math
from typing import TYPE_CHECKING

import click
import numpy as np
import torch

from attractors.cli.measurement import measurement
from attractors.cli.settings import ROOT
from attractors.distances.lpips_embedding import read_embedding
from attractors.landscape.critical_times import critical_times, euclidean, evaluations, search_times
from attractors.landscape.patterns import Measurement, ModelPatterns, Results
from attractors.landscape.summaries import log_volume

if TYPE_CHECKING:
    from attractors.measurements.basin import Basin, Search

LPIPS = ROOT / "models" / "lpips" / "vgg.safetensors"
CHUNK = 128  # patterns that are searched between two states from which a killed run goes on


@measurement("basin")
@click.option("--lpips", type=click.Path(dir_okay=False), default=LPIPS, help="LPIPS weights.",
              show_default="models/lpips/vgg.safetensors")
def main(patterns: ModelPatterns, settings: "Basin", search: "Search", lpips: str) -> Measurement:
    """Find the critical times of training images, and of samples of S' that are chosen by their distances alone.

    --out holds t_c and radius of every trial, and the log-volume of every pattern: the mean over its recovered trials.
    """
    times = len(search_times(patterns.model.steps, search.stride))
    dimensions, measure = math.prod(patterns.images.shape[1:]), euclidean
    if settings.distance == "lpips_vgg":
        measure = read_embedding(lpips, patterns.device, "vgg").distance

    def search_basins(numbers: np.ndarray) -> Results:
        basins = critical_times(patterns.model, patterns.tensor(numbers), numbers, patterns.seed, distance=measure,
                                **search.model_dump())
        logs = torch.from_numpy(log_volume(basins.radius.numpy(), dimensions))
        logs[basins.t_c == 0] = math.nan  # no ball
        return {
            "t_c": basins.t_c.numpy(), "radius": basins.radius.numpy(), "log_volume": logs.nanmean(1).numpy(),
            "searched": basins.searched.numpy(),
        }

    def sentence(summary: str, results: Results) -> str:
        used, together, full = evaluations(results["searched"], search.trials, search.steps, times)
        return (f"{summary}; {used:,} network evaluations, {1 - used / together:.0%} fewer than if all searches "
                f"stopped together, {1 - used / full:.0%} than if none stopped")

    return Measurement(
        search_basins, lambda results: [results["log_volume"][:, None]], CHUNK,
        {"distance": settings.distance, "times": times, **search.model_dump()}, sentence,
    )
