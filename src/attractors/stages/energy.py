"""The relative energies of one run: samples and training images against reference images (Alg. 4)."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from attractors.cli.measurement import measurement
from attractors.landscape.patterns import Measurement, ModelPatterns, Results
from attractors.landscape.potential import energy
from attractors.randomness import REFERENCE, generator

if TYPE_CHECKING:
    from attractors.measurements.energy import Energy

CHUNK = 1024  # patterns that are measured between two states from which a killed run goes on


@measurement("energy")
def main(patterns: ModelPatterns, settings: "Energy") -> Measurement:
    """Find u(target) - u(reference) of training images and of samples of S' that are chosen by their distances alone.

    Lower is more stable. References are the same images of SUBSET at every K.
    """
    t0, nodes, references, batch = settings.t0, settings.nodes, settings.references, settings.batch
    images = patterns.subset
    if references > len(images):
        raise ValueError(f"--references is {references}; {images.path} holds {len(images)} images")
    chosen = generator(patterns.seed, REFERENCE).permutation(len(images))[:references]
    reference_images = torch.from_numpy(images.read(chosen)).to(patterns.device)

    def energies(numbers: np.ndarray) -> Results:
        x = patterns.tensor(numbers)
        columns = [energy(patterns.model, x, reference, t0, nodes, batch) for reference in reference_images]
        return {"energy": torch.stack(columns, 1).cpu().numpy()}

    return Measurement(
        energies, lambda results: [results["energy"]], CHUNK, {"t0": t0, "nodes": nodes, "batch": batch},
        lambda summary, _: f"energies against {references} references at t={t0} of {summary}", {"references": chosen},
    )
