"""How often the samples of one run repeat each other, and which of them are blends of training images."""

import click
import numpy as np

from attractors.arrays import array_hash, write_arrays
from attractors.cli.stage import out_option, stage
from attractors.data.images import read_images
from attractors.distances.neighbours import nearest
from attractors.settings.states import Repetition
from attractors.states.fixed_points import merge
from attractors.states.mixtures import KINDS, blend_kinds, simplex_weights
from attractors.states.repetition import coverage, rarefaction, repetition_chance

POINTS = 24  # of the rarefaction curve


@stage("repetition", sweep=True, settings=Repetition)
@click.option("--synthetic", type=click.Path(), required=True, help="The synthetic set S'.")
@click.option("--subset", type=click.Path(), required=True, help="Images in subset order: S is the first K.")
@click.option("--size", type=click.IntRange(2), required=True, help="K.")
@click.option("--delta", type=float, required=True, help="Distance within which two samples repeat each other.")
@out_option
def main(
    sweep: dict | None, synthetic: str, subset: str, size: int, delta: float, out: str, settings: Repetition
) -> None:
    """Measure C_2, coverage and rarefaction of the samples that are not within --delta of S, and blends in S'.

    --out holds `counts`, the samples of each state (groups whose members all lie within delta), the rarefaction curve
    `drawn`, `states`, and of the first samples the `kinds` (training image, blend of two, of three, other) and the
    `residual` of the nearest point in the convex hull of S.
    """
    s, s_prime = read_images(subset, size), read_images(synthetic)
    flat = s_prime.reshape(len(s_prime), -1)
    distances = nearest(flat, s.reshape(size, -1), 1)[0][:, 0].cpu().numpy()
    new = flat[distances > delta]
    chance, error = repetition_chance(new, delta)
    counts = np.bincount(merge(new, delta, "complete")) if len(new) else np.zeros(0, np.int64)
    drawn = np.unique(np.geomspace(1, max(len(new), 1), POINTS).round().astype(int))[: len(new)]
    first = s_prime[: settings.blends]
    kinds, residual = blend_kinds(first, s, delta), simplex_weights(first, s).residual
    covered = coverage(counts) if len(new) else float("nan")
    arrays = {
        "counts": counts, "drawn": drawn, "states": rarefaction(counts, drawn) if len(new) else np.zeros(0),
        "kinds": kinds, "residual": residual,
    }
    write_arrays(
        out, arrays, size=size, delta=delta, count=len(s_prime), new=len(new), C_2=chance, C_2_error=error,
        coverage=covered, synthetic_sha256=array_hash(s_prime), settings=settings.model_dump(),
    )
    shares = ", ".join(f"{(kinds == code).mean():.3f} {name}" for code, name in enumerate(KINDS))
    click.echo(f"{out}: K = {size}: {len(new):,} of {len(s_prime):,} samples are new, C_2 = {chance:.5f} +- {error:.5f}"
               f", {len(counts):,} states, coverage {covered:.3f}; of {len(first)} samples {shares}")
