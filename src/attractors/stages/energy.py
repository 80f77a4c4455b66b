"""The relative energies of one run: each type of sample against reference images (Alg. 4), its gap to S (Eq. 48)."""

import click
import numpy as np
import pandas as pd
import torch

from attractors.arrays import write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.data.images import read_images
from attractors.files import file_hash
from attractors.landscape.patterns import check_time, inputs, left_out, moments, read_inputs
from attractors.landscape.potential import energy, energy_gap
from attractors.randomness import REFERENCE, generator
from attractors.tables import write_csv


@stage("energy", sweep=True)
@inputs
@click.option("--limit", type=click.IntRange(1), default=512, help="Patterns of each type.")
@click.option("--training", type=click.IntRange(1), default=2048, help="Training images.")
@click.option("--t0", type=click.IntRange(0), default=0, help="The time of the energy, 0-based.")
@click.option("--nodes", type=click.IntRange(2), default=20, help="Points on the path from the target to a reference.")
@click.option("--references", type=click.IntRange(1), default=4, help="Reference images, drawn from the whole dataset.")
@click.option("--batch", type=click.IntRange(1), default=1024, help="Network evaluations at a time.")
@seed_option
@device_option
@click.option("--metrics", type=click.Path(dir_okay=False), required=True, help="The table to write.")
@out_option
def main(
    sweep,
    model,
    selection,
    synthetic,
    subset,
    limit,
    training,
    t0,
    nodes,
    references,
    batch,
    seed,
    device,
    metrics,
    out,
):
    """Find u(target) - u(reference) of the samples in SELECTION and of the first TRAINING images of S.

    Lower is more stable. References are the same images of SUBSET at every K.
    """
    path, device = model, find_device(device)
    model, patterns, size = read_inputs(path, selection, synthetic, subset, limit, training, device)
    check_time(t0, model, path)
    images = read_images(subset)
    if references > len(images):
        raise ValueError(f"--references is {references}; {subset} holds {len(images)} images")
    chosen = generator(seed, REFERENCE).permutation(len(images))[:references]
    arrays, rows = {"references": chosen}, []
    steps = [(name, index) for name in patterns for index in range(references)]
    energies = {name: np.empty((len(x), references)) for name, (x, _) in patterns.items()}
    for name, index in progress(steps, f"energy {sweep['name'] if sweep else ''} K={size}", "set"):
        reference = torch.from_numpy(images[chosen[index]]).to(device)
        energies[name][:, index] = energy(model, patterns[name][0], reference, t0, nodes, batch).cpu().numpy()
    for name, (x, numbers) in patterns.items():
        arrays |= {f"{name}_numbers": numbers, f"{name}_energy": energies[name]}
        for index in range(references):
            found = energies[name][:, index]
            rows.append({
                "K": size, "type": name, "reference": index + 1, "image": chosen[index], "t0": t0, "n": len(x),
                **moments(found, "energy"), "gap": energy_gap(found, energies["training"][:, index]),
            })  # fmt: skip
    table = pd.DataFrame(rows)
    write_arrays(out, arrays, model_sha256=file_hash(path), seed=seed, size=size, t0=t0, nodes=nodes)
    write_csv(metrics, table)
    click.echo(table.pivot(index="reference", columns="type", values="gap").to_string(float_format="%.4f"))
    training = len(patterns["training"][1])
    click.echo(f"{out}, {metrics}: gaps to {training} training images, {references} references{left_out(patterns)}")


if __name__ == "__main__":
    main()
