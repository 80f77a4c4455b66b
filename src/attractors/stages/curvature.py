"""The curvature of the energy of one run: spectra around each type of sample (Algs. 2 and 3, and the Jacobian)."""

import math

import click
import numpy as np
import pandas as pd

from attractors.arrays import write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.files import file_hash
from attractors.landscape.curvature import (
    central_difference,
    degrees_of_freedom,
    effective_rank,
    jacobian,
    one_sided,
    spectral_gap,
)
from attractors.landscape.patterns import check_time, inputs, left_out, moments, read_inputs
from attractors.tables import write_csv

METHODS = ("central", "one_sided", "jacobian")


def spectrum(method, model, x, numbers, seed, t, batch, progress):
    """(singular values: [P, N], trace of the Jacobian: [P] or None) of patterns x by the method so named."""
    if method == "jacobian":
        return jacobian(model, x, t, batch, progress)
    algorithm = {"central": central_difference, "one_sided": one_sided}[method]
    return algorithm(model, x, numbers, seed, t, batch, progress), None


def summary(values, trace, sigma):
    """Columns of the table of summaries for values: [P, N] and trace: [P] or None."""
    dimension, gap = spectral_gap(values)
    columns = {
        "largest": values[:, 0], "median": values.median(1).values, "smallest": values[:, -1],
        "effective_rank": effective_rank(values), "dimension": dimension, "gap": gap,
    }  # fmt: skip
    if trace is not None:
        columns["degrees_of_freedom"] = degrees_of_freedom(trace, sigma, values.shape[1])
    return {key: value for name, column in columns.items() for key, value in moments(column.cpu(), name).items()}


@stage("curvature", sweep=True)
@inputs
@click.option("--limit", type=click.IntRange(1), default=512, help="Patterns of each type.")
@click.option("--training", type=click.IntRange(1), default=2048, help="Training images.")
@click.option("--method", "methods", type=click.Choice(METHODS), multiple=True, default=["central"], help="Alg. 2, ...")
@click.option("--t0", type=click.IntRange(0), default=2, help="The time of the score, 0-based.")
@click.option("--batch", type=click.IntRange(1), default=1024, help="Network evaluations at a time.")
@seed_option
@device_option
@click.option("--spectra", type=click.Path(dir_okay=False), required=True, help="The table of mean spectra to write.")
@click.option("--metrics", type=click.Path(dir_okay=False), required=True, help="The table of summaries to write.")
@out_option
def main(
    sweep, model, selection, synthetic, subset, limit, training, methods, t0, batch, seed, device, spectra, metrics, out
):
    """Find the singular values of the score around the samples in SELECTION and the first TRAINING images of S.

    Methods: central is Alg. 2, one_sided Alg. 3; jacobian is without noise, and not in the paper.
    """
    path, device = model, find_device(device)
    model, patterns, size = read_inputs(path, selection, synthetic, subset, limit, training, device)
    check_time(t0, model, path)
    sigma = model.sigma(t0).item()
    arrays, rows, curves = {f"{name}_numbers": numbers for name, (_, numbers) in patterns.items()}, [], []
    for name, (x, numbers) in patterns.items():
        for method in methods:
            label = f"curvature {sweep['name'] if sweep else ''} K={size} {name}, {method}"
            values, trace = spectrum(
                method, model, x, numbers, seed, t0, batch,
                lambda groups, label=label: progress(groups, label, "group"),
            )  # fmt: skip
            arrays[f"{name}_{method}"] = values.cpu().numpy()
            key = {"K": size, "type": name, "method": method}
            rows.append({**key, "t0": t0, "sigma": sigma, "n": len(x), **summary(values, trace, sigma)})
            deviation = arrays[f"{name}_{method}"].std(0, ddof=1) if len(x) > 1 else np.nan
            curves.append(pd.DataFrame({
                **key, "rank": np.arange(1, values.shape[1] + 1), "mean": arrays[f"{name}_{method}"].mean(0),
                "std": deviation,
            }))  # fmt: skip
    table = pd.DataFrame(rows)
    write_arrays(out, arrays, model_sha256=file_hash(path), seed=seed, size=size, t0=t0)
    write_csv(spectra, pd.concat(curves))
    write_csv(metrics, table)
    shown = ["type", "method", "n", "largest", "median", "smallest", "effective_rank", "dimension", "gap"]
    click.echo(table[shown].to_string(index=False, float_format="%.2f"))
    dimensions = math.prod(patterns["training"][0].shape[1:])
    click.echo(
        f"{out}, {spectra}, {metrics}: {table.n.sum()} spectra of {dimensions} values at K={size}, t={t0}"
        f"{left_out(patterns)}"
    )


if __name__ == "__main__":
    main()
