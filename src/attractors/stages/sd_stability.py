"""Measure whether different noises give the same image, the paper's sign of a stable attractor (Fig. 5B)."""

from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist

from attractors.arrays import read_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.progress import progress
from attractors.cli.settings import ROOT
from attractors.cli.stage import out_option, stage
from attractors.data.images import read_images
from attractors.data.prompts import prompts_of
from attractors.distances.lpips_embedding import Embedding, read_embedding
from attractors.tables import write_csv

LPIPS = ROOT / "models" / "lpips" / "alex.safetensors"


def embeddings(embedding: Embedding, images: np.ndarray, device: torch.device) -> np.ndarray:
    """Return LPIPS embeddings: [n, D], computed one image at a time, because those of large images are large.

    images: [n, C, H, W] in [-1, 1].
    """
    with torch.inference_mode():
        return np.concatenate([embedding(torch.from_numpy(image[None]).to(device)).cpu().numpy() for image in images])


@stage("sd_stability", study="required")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--lpips", type=click.Path(dir_okay=False), default=LPIPS, help="LPIPS weights.",
    show_default="models/lpips/alex.safetensors",
)
@device_option
@out_option
def main(study: dict, folder: Path, lpips: str, device: str, out: str) -> None:
    """Measure how much the images of each prompt in FOLDER, which sd_generate.py wrote, differ from noise to noise.

    Columns: LPIPS and Euclidean distance of latents, mean, least and greatest over pairs of noises, then `other`,
    the mean distance to images of other prompts from other noises, and `repetition` = 1 - mean / other: 1 where the
    noise does not matter, 0 where images of one prompt differ as much as those of two.
    """
    device = find_device(device)
    embedding = read_embedding(lpips, device)
    entries, vectors = prompts_of(study, study["name"]), {}
    for name in progress(entries, f"sd_stability {study['name']}", "prompt"):
        arrays, _ = read_arrays(folder / f"{name}.safetensors", "latents", "images")
        if len(arrays["latents"]) < 2:
            raise ValueError(f"{folder / name}.safetensors: one image; pairs need sd_generate --noises 2 or more")
        latents = arrays["latents"].reshape(len(arrays["latents"]), -1).astype(np.float64)
        vectors[name] = {
            "lpips": embeddings(embedding, read_images(folder / f"{name}.safetensors"), device),
            "l2": latents,
        }
    rows = []
    for name, entry in entries.items():
        row = {"prompt": name, "type": entry["type"], "noises": len(vectors[name]["l2"])}
        for distance, power in (("lpips", 2), ("l2", 1)):  # LPIPS is the square of a distance
            of_prompt = vectors[name][distance]
            pairs = pdist(of_prompt) ** power
            other = [
                np.linalg.norm(a - b) ** power
                for peer in entries if peer != name
                for a, b in zip(of_prompt, np.roll(vectors[peer][distance], 1, 0), strict=False)
            ]
            row |= {distance: pairs.mean(), f"{distance}_min": pairs.min(), f"{distance}_max": pairs.max()}
            row[f"{distance}_other"] = np.mean(other) if other else np.nan
            row[f"{distance}_repetition"] = 1 - row[distance] / row[f"{distance}_other"]
        rows.append(row)
    table = pd.DataFrame(rows)
    write_csv(out, table)
    shown = ["prompt", "type", "lpips", "lpips_other", "lpips_repetition", "l2", "l2_other"]
    click.echo(table[shown].to_string(index=False, float_format="%.3f"))
    click.echo(f"{out}: repetition of {len(table)} prompts over {table.noises.min()} noises or more")
