"""Find the exact nearest neighbours of every synthetic sample, in the training set S and in the synthetic set S'."""

from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from attractors.arrays import array_hash, write_arrays
from attractors.cli.devices import device_option, find_device
from attractors.cli.images import range_option
from attractors.cli.progress import progress
from attractors.cli.settings import ROOT
from attractors.cli.stage import out_option, replicate_option, stage
from attractors.data.images import brought_together, open_images
from attractors.distances.detection import DISTANCES
from attractors.distances.lpips_embedding import BATCH, Embedding, read_embedding
from attractors.distances.neighbours import nearest
from attractors.distances.scratch import Scratch
from attractors.distances.twins import TWINS, in_words, one_each, originals, spacing_of
from attractors.files import file_hash
from attractors.settings.neighbours import Neighbours


def embedded(embedding: Embedding, images: np.ndarray, folder: str | Path, label: str) -> Scratch:
    """Return the LPIPS embeddings of images as a table on disk; each is computed once."""
    blocks = progress(embedding.batches(images), label, "block", total=-(-len(images) // BATCH))
    return Scratch(
        (block.cpu().numpy() for block in blocks), (len(images), embedding.dimensions(images.shape[1:])), folder
    )


def budget(memory: int | None, device: torch.device) -> int:
    """Return the bytes for intermediates: `memory` MiB, or by default 512 MiB, or a quarter of a GPU's free memory."""
    if memory is None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    return (memory or 512) * 2**20


@stage("neighbours", sweep=True, settings=Neighbours)
@click.option(
    "--synthetic", type=click.Path(), required=True, help="S': a synthetic set, .npz, .npy, .pt, .zip or folder."
)
@click.option("--training", type=click.Path(), required=True, help="S, or images in subset order.")
@range_option
@click.option("--size", type=click.IntRange(1), help="K: S is the first K training images.  [default: all]")
@click.option(
    "--lpips", type=click.Path(dir_okay=False), help="LPIPS weights.  [default: models/lpips/BACKBONE.safetensors]"
)
@replicate_option
@device_option
@out_option
def main(
    sweep: dict | None, synthetic: str, training: str, values: str | None, size: int | None, lpips: str | None,
    replicate: int, device: str, out: str, settings: Neighbours,
) -> None:
    """Find the K nearest neighbours of every image of SYNTHETIC in SIZE images of TRAINING and in SYNTHETIC itself.

    A sample is not its own neighbour, but an exact copy of it is. Distances are in the units of Table 2: Euclidean
    for l2, and LPIPS itself, which is a squared Euclidean distance of features, for lpips_*.
    """
    device, k, distance = find_device(device), settings.k, settings.distance
    sets = open_images(training, size, values), open_images(synthetic, values=values)
    sets = brought_together(*sets, (training, synthetic), vouched=values is not None)
    for label, path, images in zip(("S ", "S'"), (training, synthetic), sets, strict=True):
        click.echo(f"{label} {path}: {images.said}")
    s, s_prime = (images.array for images in sets)
    record: dict[str, Any] = {"training_sha256": array_hash(s), "synthetic_sha256": array_hash(s_prime)}
    if backbone := DISTANCES[distance]:
        path = lpips or ROOT / "models" / "lpips" / f"{backbone}.safetensors"
        embedding, record["lpips_sha256"] = read_embedding(path, device, backbone), file_hash(path)
        folder = Path(out).parent
        folder.mkdir(parents=True, exist_ok=True)
        s, s_prime = (
            embedded(embedding, part, folder, f"{distance} of {name}") for part, name in ((s, "S"), (s_prime, "S'"))
        )
    else:
        s, s_prime = (images.reshape(len(images), -1) for images in (s, s_prime))

    def neighbours_of(
        label: str, queries: Any, references: Any, neighbours: int, self_excluded: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return nearest(
            queries, references, neighbours, self_excluded, budget(settings.memory, device),
            lambda blocks: progress(blocks, label, "block"), squared=backbone is not None, device=device,
        )

    def metric(distances: torch.Tensor) -> np.ndarray:  # LPIPS is the square of a distance
        return (distances.sqrt() if backbone else distances).numpy()

    arrays = {}
    for name, references in (("training", s), ("synthetic", s_prime)):
        distances, indices = neighbours_of(f"neighbours in {name} set", s_prime, references, k, name == "synthetic")
        arrays[f"{name}_distances"], arrays[f"{name}_indices"] = distances.numpy(), indices.numpy()
    spacing, others = neighbours_of("spacing of training set", s, s, TWINS + 1, True)
    first = originals(metric(spacing), others.numpy())
    arrays["training_spacing"] = spacing[:, 0].contiguous().numpy()
    if largest := int(np.bincount(first).max()) - 1:
        if largest > TWINS:
            spacing, others = neighbours_of("spacing of training set", s, s, largest + 1, True)
        arrays["training_spacing"] = spacing_of(spacing.numpy(), others.numpy(), first)
        distances, indices = neighbours_of("second originals", s_prime, s, largest + 2, False)
        arrays["training_second"] = one_each(distances.numpy(), indices.numpy(), first, 2)[:, 1]
        arrays["training_originals"], record["twins"] = first, int((first != np.arange(len(first))).sum())
        click.echo(f"S  {training}: {in_words(first)}")
    record |= {"distance": distance, "k": k, "size": len(s), "count": len(s_prime), "replicate": replicate}
    write_arrays(out, arrays, **record)
    click.echo(f"{out}: {k} neighbours of {len(s_prime):,} samples in {len(s):,} training images and in each other")
