"""Measure the curvature around an image of one prompt (Figs. 5B, 24) by Alg. 3 and by cheaper estimates."""

import math
from functools import partial

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
from attractors.denoisers.latent import read_pipeline
from attractors.files import file_hash
from attractors.landscape.curvature import one_sided_resumable
from attractors.landscape.linearised import hutchinson, leading_singular_values, rounding
from attractors.landscape.patterns import check_time
from attractors.landscape.quadrature import Spectrum, spectrum
from attractors.settings.study import LatentCurvature
from attractors.tables import write_csv

SKIP = 50  # of the largest values, which the paper does not draw


def spectrum_columns(values: np.ndarray, complete: bool) -> dict[str, float]:
    """Return columns of the table of summaries for singular values: [n], descending.

    The lower quantiles are given only where the spectrum is complete.
    """
    columns = {"largest": values[0], f"rank_{SKIP + 1}": values[SKIP] if len(values) > SKIP else math.nan}
    return columns | ({"median": np.median(values), "smallest": values[-1]} if complete else {})


def quadrature_columns(estimate: Spectrum) -> dict[str, float]:
    """Return columns of the table of summaries for an estimated spectrum; the errors of quantiles are in _error."""
    columns = {"largest": estimate.values[-1].item()}
    for name, share in (("lower_quartile", 0.25), ("median", 0.5), ("upper_quartile", 0.75)):
        columns[name], columns[f"{name}_error"] = estimate.quantile(share)
    return columns


@stage("sd_curvature", study="required", settings=LatentCurvature)
@click.option("--prompt", "name", required=True, help="Name of the prompt in the study's file.")
@click.option("--latents", type=click.Path(dir_okay=False), required=True, help="What sd_generate.py wrote.")
@click.option("--model", help="As of sd_generate.py.  [default: the study's]")
@seed_option
@device_option
@click.option("--metrics", type=click.Path(dir_okay=False), required=True, help="The table of summaries to write.")
@out_option
def main(
    study: dict, name: str, latents: str, model: str | None, seed: int, device: str, metrics: str, out: str,
    settings: LatentCurvature,
) -> None:
    """Find singular values of the score around image --sample of --latents.

    --out holds {kind}_one_sided: [N] and {kind}_lanczos: [leading], descending, and, by --method quadrature,
    {kind}_spectrum: [4, starts x nodes], ascending values, the share of all singular values at or below each, its
    standard error and its resolution. Alg. 3 goes on where it was killed, to the same bytes. Its values are those of
    the Jacobian times sigma_t sqrt(4N), blurred by up to a half.
    """
    sample, t0, batch, precision = settings.sample, settings.t0, settings.batch, settings.precision
    leading, probes = settings.leading, settings.probes
    entry, device = prompt_of(study, name, study["name"]), find_device(device)
    generated, record = read_arrays(latents, "latents")
    if sample >= len(generated["latents"]):
        raise ValueError(f"{latents}: holds {len(generated['latents'])} images; --sample {sample} was asked for")
    source = model or study["model"]
    guidance = record["guidance"] if settings.guidance is None else settings.guidance
    pipeline = read_pipeline(source, device)
    x_0 = torch.from_numpy(generated["latents"][sample : sample + 1]).to(device)
    if tuple(x_0.shape[1:]) != pipeline.shape:
        raise ValueError(f"{latents}: latents of shape {tuple(x_0.shape[1:])}; {source} takes {pipeline.shape}")
    arrays, rows, checkpoints, dimensions = {}, [], [], x_0.numel()
    for kind in settings.kinds:
        exact = pipeline.diffusion(kind, entry["prompt"], guidance)
        check_time(t0, exact, source)
        sigma = exact.sigma(t0).item()
        key = {"prompt": name, "type": entry["type"], "kind": kind, "t0": t0, "sigma": sigma, "N": dimensions}
        label = f"sd_curvature {study['name']} {name}, {kind}"
        if "one_sided" in settings.methods:
            score, errors = exact, {}
            if precision != "float32":
                score = pipeline.diffusion(kind, entry["prompt"], guidance, precision)
                errors = dict(zip(("score_error", "spectrum_error"), rounding(score, exact, x_0, seed, sample, t0)))  # noqa: B905
            checkpoint = Checkpoint(
                out, __file__, device, model=source, kind=kind, guidance=guidance, prompt=entry["prompt"],
                sample=sample, t0=t0, batch=batch, precision=precision, seed=seed, latents_sha256=file_hash(latents),
            )
            checkpoints.append(checkpoint)
            values = one_sided_resumable(
                score, x_0, sample, seed, t0, batch, checkpoint.load(device), checkpoint.save,
                partial(progress, description=f"{label}, Alg. 3", unit="block"),
            ).cpu().numpy()
            arrays[f"{kind}_one_sided"] = values
            rows.append({
                **key, "method": "one_sided", "evaluations": 4 * dimensions, **spectrum_columns(values, True), **errors,
            })
        if "lanczos" in settings.methods:
            with progress(None, f"{label}, Lanczos", "product") as bar:
                values, used = leading_singular_values(exact, x_0, leading, seed, sample, t0, bar.update)
            arrays[f"{kind}_lanczos"] = values.numpy()
            rows.append({**key, "method": "lanczos", "evaluations": used, **spectrum_columns(values.numpy(), False)})
        if "quadrature" in settings.methods:
            nodes = min(settings.nodes, dimensions)
            with progress(None, f"{label}, quadrature", "product", total=2 * nodes - 1) as bar:
                estimate = spectrum(exact, x_0, settings.starts, nodes, seed, sample, t0, bar.update)
            arrays[f"{kind}_spectrum"] = torch.stack(estimate).numpy()
            rows.append({
                **key, "method": "quadrature", "evaluations": settings.starts * (2 * nodes - 1),
                **quadrature_columns(estimate),
            })
        if "hutchinson" in settings.methods:
            moments = hutchinson(
                exact, x_0, probes, seed, sample, t0, settings.products,
                partial(progress, description=f"{label}, Hutchinson", unit="batch"),
            )
            rows.append({**key, "method": "hutchinson", "evaluations": probes, **moments._asdict()})
    table = pd.DataFrame(rows)
    write_arrays(
        out, arrays, name=name, type=entry["type"], model=source, latents_sha256=file_hash(latents), seed=seed, t0=t0,
        sigma=sigma, sample=sample, guidance=guidance, precision=precision, leading=leading, probes=probes,
    )
    write_csv(metrics, table)
    for checkpoint in checkpoints:
        checkpoint.remove()
    shown = [c for c in ("kind", "method", "evaluations", "largest", f"rank_{SKIP + 1}", "median", "rms", "score_error")
             if c in table]
    click.echo(table[shown].to_string(index=False, float_format="%.4g", na_rep="-"))
    click.echo(f"{out}, {metrics}: curvature of {name} at t={t0}, N={dimensions}")
