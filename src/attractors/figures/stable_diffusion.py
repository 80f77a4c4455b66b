"""Figs. 5B and 24: images of each prompt from several noises, and the spectrum of the score around the first."""

import textwrap
from collections.abc import Iterator

import click
import numpy as np
import pandas as pd

from attractors.arrays import read_arrays
from attractors.cli.settings import read_yaml
from attractors.data.images import read_images
from attractors.data.prompts import prompts_of
from attractors.distances.detection import TYPES
from attractors.figures.registry import Figure
from attractors.figures.style import COLOURS, Axes, canvas, drawing, pixels, save
from attractors.report.words import Table
from attractors.results.run import Run
from attractors.tables import read_csv

LINES = ("-", "--", ":", "-.")


def findings(run: Run) -> Iterator[str | Table]:
    """Of each prompt of each study: how much its images repeat, and its median singular values by Alg. 3."""
    if not run.studies:
        yield "Not in this run. It needs the weights: python src/main.py scale stable_diffusion, then dvc repro."
    for name in run.studies:
        parts = [read_csv(path) for path in sorted((run.metrics / "latent_curvature" / name).glob("*.csv"))]
        spectra = [part[part.method == "one_sided"] for part in parts]
        known = [part for part in (run.table("latent_stability", name), *spectra) if part is not None and len(part)]
        table = pd.concat(known, ignore_index=True) if known else pd.DataFrame(columns=["prompt"])
        kinds = sorted(table.kind.dropna().unique()) if "kind" in table else []
        rows = []
        for prompt, part in table.groupby("prompt"):
            values = [part.lpips_repetition.max()] if "lpips_repetition" in part else [np.nan]
            values += [part["median"][part.kind == kind].max() for kind in kinds]
            rows.append([prompt, part.type.iloc[0], *("" if pd.isna(value) else f"{value:.3g}" for value in values)])
        rows.sort(key=lambda row: TYPES.index(row[1]))
        if rows:
            columns = ("prompt", "candidate", "repetition", *(f"median, {kind} score" for kind in kinds))
            yield Table(f"{name}: repetition and singular values by Alg. 3", columns, rows)
            yield (
                "Repetition is 1 where the noise does not matter and 0 where images of one prompt differ as much as "
                "those of two (LPIPS)."
            )


FIGURE = Figure(
    __name__, "5B, 24", "Is the energy of Stable Diffusion curved most at memorized images?",
    "Hand-picked candidates: singular values are largest for a memorized image, smaller for spurious ones, "
    "smallest for generalized ones.",
    stages=("sd_generate", "sd_stability", "sd_curvature"), pictures=("stable_diffusion/{}",),
    tables=("latent_stability/{}", "latent_curvature/{}"), findings=findings,
)


def spectra(axis: Axes, prompts: dict[str, tuple], kind: str, suffix: str, first: int) -> None:
    """Draw the singular values `{kind}_{suffix}` of every prompt by rank, from rank `first` on.

    Each type has a colour, and each prompt a line style. prompts: {name: (entry in the study, arrays, their record)}.
    """
    count = dict.fromkeys(TYPES, 0)
    for name, (entry, arrays, _) in prompts.items():
        values, style = arrays.get(f"{kind}_{suffix}"), LINES[count[entry["type"]] % len(LINES)]
        count[entry["type"]] += 1
        if values is not None:
            ranks = np.arange(1, len(values) + 1)[first - 1 :]
            axis.plot(ranks, values[first - 1 :], style, lw=1.2, color=COLOURS[entry["type"]], label=name)


@drawing
@click.argument("study", type=click.Path(exists=True, dir_okay=False))
@click.option("--latents", type=click.Path(file_okay=False), required=True, help="Folder that sd_generate.py filled.")
@click.option("--spectra", "folder", type=click.Path(file_okay=False), required=True, help="That of sd_curvature.py.")
@click.option("--stability", type=click.Path(dir_okay=False), required=True, help="The table of sd_stability.py.")
@click.option("--kind", default="conditional", help="Whose score: conditional, unconditional or guided.")
@click.option("--noises", type=click.IntRange(1), default=4, help="Images of each prompt.")
@click.option("--skip", type=click.IntRange(0), default=50, help="Largest values left out of the clipped panel (D.2).")
@click.option("--clip", type=click.FloatRange(0, min_open=True), default=1500, help="Its upper end (D.2).")
def main(
    study: str, latents: str, folder: str, stability: str, kind: str, noises: int, skip: int, clip: float,
    outs: tuple[str, ...],
) -> None:
    """Draw the prompts of STUDY, a file as in prompts/."""
    entries = prompts_of(read_yaml(study), study)
    table = read_csv(stability).set_index("prompt")
    prompts = {
        name: (entries[name], *read_arrays(f"{folder}/{name}.safetensors"))
        for name in sorted(entries, key=lambda name: TYPES.index(entries[name]["type"]))
    }
    if not any(f"{kind}_one_sided" in arrays for _, arrays, _ in prompts.values()):
        raise click.BadParameter(f"{folder}: no spectra of the {kind} score by Alg. 3", param_hint="--kind")
    rows, per_column = len(prompts), -(-len(prompts) // 3) if len(prompts) > 3 else 1
    blocks = -(-rows // per_column)
    figure = canvas(3.4 * blocks, 1.35 * per_column + 2.9)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.35 * per_column, 2.9])
    panels = top.subfigures(per_column, blocks, squeeze=False)
    for i, (name, (entry, _, _)) in enumerate(prompts.items()):
        panel, row = panels[i % per_column, i // per_column], table.loc[name]
        axes = panel.subplots(1, noises, squeeze=False)[0]
        for axis, image in zip(axes, read_images(f"{latents}/{name}.safetensors"), strict=False):
            axis.imshow(pixels(image), cmap="gray", vmin=0, vmax=1)
        for axis in axes:
            axis.axis("off")
        title = textwrap.shorten(f"{name}: {entry['prompt'] or 'no text'}", 60, placeholder=" ...")
        title += f"\nLPIPS between noises {row.lpips:.2g}, to other prompts {row.lpips_other:.2g}"
        panel.suptitle(title, x=0.01, ha="left", fontsize=6.5, color=COLOURS[entry["type"]])
    record = next(iter(prompts.values()))[2]
    paper, whole, leading = bottom.subplots(1, 3)
    spectra(paper, prompts, kind, "one_sided", skip + 1)
    paper.set(title=f"Alg. 3, ranks from {skip + 1}, clipped at {clip:g}", ylabel=f"singular value, {kind} score")
    top_of = max(
        (a[f"{kind}_one_sided"][skip:].max(initial=0) for _, a, _ in prompts.values() if f"{kind}_one_sided" in a)
    )
    paper.set_ylim(0, min(clip, 1.05 * top_of))
    spectra(whole, prompts, kind, "one_sided", 1)
    whole.set(title="Alg. 3, all ranks, not clipped", yscale="log", xscale="log")
    spectra(leading, prompts, kind, "lanczos", 1)
    leading.set(title="Jacobian by Lanczos (not in the paper)", xlim=(0, None))
    leading.set_ylim(0, None)
    for axis in (paper, whole, leading):
        axis.set_xlabel(f"rank, t = {record['t0']}")
    for kind_of, colour in COLOURS.items():
        if any(entry["type"] == kind_of for entry, _, _ in prompts.values()):
            whole.plot([], [], color=colour, lw=4, label=f"candidate {kind_of}")
    bottom.legend(*whole.get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    click.echo(f"{save(figure, outs)}: images and spectra of {rows} prompts, {kind} score")
