"""Count the minima of the exact energy of K points on the circle, and those that are not a training point."""

import click
import numpy as np
import pandas as pd

from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.settings.toy import Circle, Minima
from attractors.tables import write_csv
from attractors.theory.associative_memory import (
    circle_radius,
    energy,
    exact_attractors,
    inverse_temperature,
    merging_probability,
    ripple,
)
from attractors.theory.toy import circle, on_circle
from attractors.theory.toy_landscape import grid


@stage("toy_minima", data=Circle, settings=Minima)
@seed_option
@out_option
def main(seed: int, out: str, data: Circle, settings: Minima) -> None:
    """Count the minima of E^DM (Eq. 5) for each of SIZES and TIMES.

    A minimum is spurious if not exactly one training point descends into it (Eq. 7).
    """
    sizes, times, points, sigma = settings.sizes, settings.times, data.points, data.sigma
    if max(sizes) > points:
        raise ValueError(f"--size {max(sizes)}: there are --points {points:,}")
    training, start = circle(points, seed), grid(1.5, 10)
    ring = on_circle(np.linspace(0, 2 * np.pi, 721))
    rows = []
    for K, t in progress([(K, t) for t in sorted(times) for K in sorted(sizes)], "toy minima", "landscape"):
        memories, beta = training[:K], inverse_temperature(t, sigma)
        minima, shared = exact_attractors(memories, beta, start)
        rows.append(
            {
                "t": t, "K": K, "minima": len(minima), "spurious": int((shared != 1).sum()),
                "share_of_spurious": shared[shared != 1].sum() / K, "chance": merging_probability(K, beta),
                "ripple": ripple(energy(circle_radius(beta) * ring, memories, beta), beta),
            }
        )
    write_csv(out, pd.DataFrame(rows))
    click.echo(f"{out}: minima of {len(sizes)} training sets at {len(times)} times")
