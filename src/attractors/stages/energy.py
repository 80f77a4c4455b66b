"""The relative energies of one run: samples and training images against reference images (Alg. 4)."""

import click
import numpy as np
import torch

from attractors.cli.devices import device_option, find_device
from attractors.cli.stage import out_option, seed_of_replicate, stage
from attractors.data.images import ImageFile
from attractors.landscape.measuring import Results
from attractors.landscape.patterns import check_time, inputs, measure_patterns, read_patterns, summary
from attractors.landscape.potential import energy
from attractors.randomness import REFERENCE, generator
from attractors.settings.energy import Energy

CHUNK = 1024  # patterns that are measured between two states from which a killed run goes on


@stage("energy", sweep=True, settings=Energy)
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
    settings: Energy,
) -> None:
    """Find u(target) - u(reference) of training images and of samples of S' that are chosen by their distances alone.

    Lower is more stable. References are the same images of SUBSET at every K.
    """
    device = find_device(device)
    patterns = read_patterns(model, neighbours, synthetic, subset, settings, seed, device)
    t0, nodes, references, batch = settings.t0, settings.nodes, settings.references, settings.batch
    check_time(t0, patterns.model, model)
    images = ImageFile(subset)
    if references > len(images):
        raise ValueError(f"--references is {references}; {subset} holds {len(images)} images")
    chosen = generator(seed, REFERENCE).permutation(len(images))[:references]
    reference_images = torch.from_numpy(images.read(chosen)).to(device)

    def energies(numbers: np.ndarray) -> Results:
        x = patterns.tensor(numbers)
        found = [energy(patterns.model, x, reference, t0, nodes, batch) for reference in reference_images]
        return {"energy": torch.stack(found, 1).cpu().numpy()}

    found = measure_patterns(
        out, __file__, patterns, energies, lambda results: [results["energy"]], CHUNK, settings.standard_error,
        f"energy {sweep['name'] if sweep else ''} K={patterns.size}", {"references": chosen}, t0=t0, nodes=nodes,
        batch=batch,
    )
    click.echo(f"{out}: energies against {references} references at t={t0} of {summary(patterns, found)}")


if __name__ == "__main__":
    main()
