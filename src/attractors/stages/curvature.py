"""The curvature of the energy of one run: spectra around samples and training images (Algs. 2 and 3, the Jacobian)."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from attractors.cli.measurement import measurement
from attractors.landscape.curvature import central_difference, jacobian, one_sided
from attractors.landscape.patterns import Measurement, ModelPatterns, Results

if TYPE_CHECKING:
    from attractors.measurements.curvature import Curvature


@measurement("curvature")
def main(patterns: ModelPatterns, settings: "Curvature") -> Measurement:
    """Find the singular values of the score around training images and around samples of S' chosen by distance alone.

    Methods: central is Alg. 2 and one_sided is Alg. 3; jacobian has no noise and is not in the paper. --out holds a
    spectrum of each method for every pattern, descending, and with jacobian its trace.
    """
    model, t0, methods, batch = patterns.model, settings.t0, settings.methods, settings.batch
    dimensions = math.prod(patterns.images.shape[1:])

    def spectra(numbers: np.ndarray) -> Results:
        x = patterns.tensor(numbers)
        spectrum: dict[str, torch.Tensor] = {}
        for method in methods:
            if method == "jacobian":
                spectrum[method], spectrum["jacobian_trace"] = jacobian(model, x, t0, batch)
            else:
                algorithm = {"central": central_difference, "one_sided": one_sided}[method]
                spectrum[method] = algorithm(model, x, numbers, patterns.seed, t0, batch)
        return {name: values.cpu().numpy() for name, values in spectrum.items()}

    return Measurement(
        spectra, lambda results: [results[method] for method in methods], max(1, batch // dimensions),
        {"methods": list(methods), "t0": t0, "sigma": model.sigma(t0).item(), "batch": batch},
        lambda summary, _: f"spectra of {dimensions} values at t={t0} of {summary}",
    )
