"""The curvature of the energy of one run: spectra around samples and training images (Algs. 2 and 3, the Jacobian)."""

import math

import click
import numpy as np
import torch

from attractors.cli.devices import device_option, find_device
from attractors.cli.stage import out_option, seed_of_replicate, stage
from attractors.landscape.curvature import central_difference, jacobian, one_sided
from attractors.landscape.measuring import Results
from attractors.landscape.patterns import check_time, inputs, measure_patterns, read_patterns, summary
from attractors.settings.curvature import Curvature


@stage("curvature", sweep=True, settings=Curvature)
@inputs
@seed_of_replicate
@device_option
@out_option
def main(
    sweep: dict | None,
    model: str,
    neighbours: str,
    synthetic: str,
    subset: str,
    seed: int,
    device: str,
    out: str,
    settings: Curvature,
) -> None:
    """Find the singular values of the score around training images and around samples of S' chosen by distance alone.

    Methods: central is Alg. 2 and one_sided is Alg. 3; jacobian has no noise and is not in the paper. --out holds a
    spectrum of each method for every pattern, descending, and with jacobian its trace.
    """
    device = find_device(device)
    patterns = read_patterns(model, neighbours, synthetic, subset, settings, seed, device)
    t0, methods, batch = settings.t0, settings.methods, settings.batch
    check_time(t0, patterns.model, model)

    def spectra(numbers: np.ndarray) -> Results:
        x = patterns.tensor(numbers)
        found: dict[str, torch.Tensor] = {}
        for method in methods:
            if method == "jacobian":
                found[method], found["jacobian_trace"] = jacobian(patterns.model, x, t0, batch)
            else:
                algorithm = {"central": central_difference, "one_sided": one_sided}[method]
                found[method] = algorithm(patterns.model, x, numbers, seed, t0, batch)
        return {name: values.cpu().numpy() for name, values in found.items()}

    dimensions = math.prod(patterns.images.shape[1:])
    found = measure_patterns(
        out, __file__, patterns, spectra, lambda results: [results[method] for method in methods],
        max(1, batch // dimensions), settings.standard_error,
        f"curvature {sweep['name'] if sweep else ''} K={patterns.size}", methods=list(methods), t0=t0,
        sigma=patterns.model.sigma(t0).item(), batch=batch,
    )
    click.echo(f"{out}: spectra of {dimensions} values at t={t0} of {summary(patterns, found)}")


if __name__ == "__main__":
    main()
