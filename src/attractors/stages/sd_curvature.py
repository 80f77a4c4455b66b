"""Measure the curvature around an image of one prompt (Figs. 5B, 24) by Alg. 3 and by cheaper estimates."""

import math

import click
import numpy as np
import pandas as pd
import torch

from attractors.arrays import read_arrays, write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.stage import out_option, seed_option, stage
from attractors.data.prompts import prompt_of
from attractors.denoisers.checkpoints import Checkpoint
from attractors.denoisers.latent import KINDS, PRECISIONS, read_pipeline
from attractors.files import file_hash
from attractors.landscape.curvature import one_sided_resumable
from attractors.landscape.linearised import hutchinson, leading_singular_values, rounding
from attractors.landscape.patterns import check_time
from attractors.tables import write_csv

METHODS = ("one_sided", "lanczos", "hutchinson")
SKIP = 50  # of the largest values, which the paper does not draw


def spectrum_columns(values: np.ndarray, complete: bool) -> dict[str, float]:
    """Return columns of the table of summaries for singular values: [n], descending.

    The lower quantiles are given only where the spectrum is complete.
    """
    columns = {"largest": values[0], f"rank_{SKIP + 1}": values[SKIP] if len(values) > SKIP else math.nan}
    return columns | ({"median": np.median(values), "smallest": values[-1]} if complete else {})


@stage("sd_curvature", sweep="required")
@click.option("--prompt", "name", required=True, help="Name of the prompt in the study's file.")
@click.option("--latents", type=click.Path(dir_okay=False), required=True, help="What sd_generate.py wrote.")
@click.option("--model", help="As of sd_generate.py.  [default: the study's]")
@click.option("--sample", type=click.IntRange(0), default=0, help="Number of the image, and of its noise.")
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, default=["conditional"], help="Whose score.")
@click.option(
    "--method", "methods", type=click.Choice(METHODS), multiple=True, default=METHODS,
    help="one_sided is Alg. 3; lanczos and hutchinson are of its Jacobian, and not in the paper.",
)  # fmt: skip
@click.option("--t0", type=click.IntRange(0), default=5, help="The time of the score, 0-based.")
@click.option("--guidance", type=click.FloatRange(0), help="Of the guided score.  [default: as generated]")
@click.option("--leading", type=click.IntRange(1), default=64, help="Singular values by Lanczos.")
@click.option("--probes", type=click.IntRange(2), default=128, help="Random vectors of Hutchinson's estimates.")
@click.option("--batch", type=click.IntRange(1), default=64, help="Columns of Alg. 3 at a time.")
@click.option("--products", type=click.IntRange(1), default=8, help="Hutchinson's products at a time.")
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="float32",
    help="Arithmetic of Alg. 3; its error is measured and recorded. Derivatives are in float32.",
)  # fmt: skip
@seed_option
@device_option
@click.option("--metrics", type=click.Path(dir_okay=False), required=True, help="The table of summaries to write.")
@out_option
def main(
    sweep: dict,
    name: str,
    latents: str,
    model: str | None,
    sample: int,
    kinds: tuple[str, ...],
    methods: tuple[str, ...],
    t0: int,
    guidance: float | None,
    leading: int,
    probes: int,
    batch: int,
    products: int,
    precision: str,
    seed: int,
    device: str,
    metrics: str,
    out: str,
) -> None:
    """Find singular values of the score around image --sample of --latents.

    --out holds {kind}_one_sided: [N] and {kind}_lanczos: [leading], descending. Alg. 3 goes on where it was killed,
    to the same bytes. Its values are those of the Jacobian times sigma_t sqrt(4N), blurred by up to a half.
    """
    entry, device = prompt_of(sweep, name, sweep["name"]), find_device(device)
    found, record = read_arrays(latents, "latents")
    if sample >= len(found["latents"]):
        raise ValueError(f"{latents}: holds {len(found['latents'])} images; --sample {sample} was asked for")
    source = model or sweep["model"]
    guidance = record["guidance"] if guidance is None else guidance
    pipeline = read_pipeline(source, device)
    x_0 = torch.from_numpy(found["latents"][sample : sample + 1]).to(device)
    if tuple(x_0.shape[1:]) != pipeline.shape:
        raise ValueError(f"{latents}: latents of shape {tuple(x_0.shape[1:])}; {source} takes {pipeline.shape}")
    arrays, rows, checkpoints, dimensions = {}, [], [], x_0.numel()
    for kind in kinds:
        exact = pipeline.diffusion(kind, entry["prompt"], guidance)
        check_time(t0, exact, source)
        sigma = exact.sigma(t0).item()
        key = {"prompt": name, "type": entry["type"], "kind": kind, "t0": t0, "sigma": sigma, "N": dimensions}
        label = f"sd_curvature {sweep['name']} {name}, {kind}"
        if "one_sided" in methods:
            score, errors = exact, {}
            if precision != "float32":
                score = pipeline.diffusion(kind, entry["prompt"], guidance, precision)
                errors = dict(zip(("score_error", "spectrum_error"), rounding(score, exact, x_0, seed, sample, t0)))  # noqa: B905
            checkpoint = Checkpoint(
                out, __file__, device, model=source, kind=kind, guidance=guidance, prompt=entry["prompt"],
                sample=sample, t0=t0, batch=batch, precision=precision, seed=seed, latents_sha256=file_hash(latents),
            )  # fmt: skip
            checkpoints.append(checkpoint)
            values = one_sided_resumable(
                score, x_0, sample, seed, t0, batch, checkpoint.load(device), checkpoint.save,
                lambda blocks, label=label: progress(blocks, f"{label}, Alg. 3", "block"),
            ).cpu().numpy()  # fmt: skip
            arrays[f"{kind}_one_sided"] = values
            rows.append({
                **key, "method": "one_sided", "evaluations": 4 * dimensions, **spectrum_columns(values, True), **errors,
            })  # fmt: skip
        if "lanczos" in methods:
            with progress(None, f"{label}, Lanczos", "product") as bar:
                values, used = leading_singular_values(exact, x_0, leading, seed, sample, t0, bar.update)
            arrays[f"{kind}_lanczos"] = values.numpy()
            rows.append({**key, "method": "lanczos", "evaluations": used, **spectrum_columns(values.numpy(), False)})
        if "hutchinson" in methods:
            moments = hutchinson(
                exact, x_0, probes, seed, sample, t0, products,
                lambda parts, label=label: progress(parts, f"{label}, Hutchinson", "batch"),
            )  # fmt: skip
            rows.append({**key, "method": "hutchinson", "evaluations": probes, **moments._asdict()})
    table = pd.DataFrame(rows)
    write_arrays(
        out, arrays, name=name, type=entry["type"], model=source, latents_sha256=file_hash(latents), seed=seed, t0=t0,
        sigma=sigma, sample=sample, guidance=guidance, precision=precision, leading=leading, probes=probes,
    )  # fmt: skip
    write_csv(metrics, table)
    for checkpoint in checkpoints:
        checkpoint.remove()
    shown = [c for c in ("kind", "method", "evaluations", "largest", f"rank_{SKIP + 1}", "median", "rms", "score_error")
             if c in table]  # fmt: skip
    click.echo(table[shown].to_string(index=False, float_format="%.4g", na_rep="-"))
    click.echo(f"{out}, {metrics}: curvature of {name} at t={t0}, N={dimensions}")


if __name__ == "__main__":
    main()
