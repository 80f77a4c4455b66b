"""What the stages that measure the energy landscape share: their inputs, the patterns they measure, and their files."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click
import numpy as np
import torch

from attractors.arrays import array_hash, read_arrays, write_arrays
from attractors.cli.progress import progress
from attractors.data.images import ImageFile
from attractors.denoisers.checkpoints import Checkpoint
from attractors.denoisers.diffusion import Diffusion
from attractors.denoisers.models import read_model
from attractors.files import file_hash
from attractors.landscape.measuring import Measured, Results, measure
from attractors.landscape.selection import GROUPS, interleave, members_of, select
from attractors.settings.patterns import Patterns as PatternSettings

TRAINING = 1 << 40  # random streams of training image i are numbered TRAINING + i, those of sample i by i


def inputs(function: Callable) -> Callable:
    """The options of the files that hold the model, the samples and the training images."""
    options = (
        click.option("--model", type=click.Path(dir_okay=False), required=True, help="The trained model."),
        click.option("--neighbours", type=click.Path(dir_okay=False), required=True, help="As neighbours writes them."),
        click.option("--synthetic", type=click.Path(), required=True, help="The synthetic set S'."),
        click.option("--subset", type=click.Path(), required=True, help="Images in subset order: S is the first K."),
    )

    for option in reversed(options):
        function = option(function)
    return function


@dataclass(frozen=True)
class Patterns:
    """A model of K training images, samples of its synthetic set, and the training images beside them.

    members: the numbers of each group's patterns; of training image i it is TRAINING + i. These address random streams,
    the same for a sample whatever else is measured.
    """

    path: str  # of the model
    model: Diffusion
    size: int  # K
    to_training: np.ndarray  # [N'], the distance of each sample to S
    within: np.ndarray  # [N'], and to its nearest other sample
    seed: int
    members: dict[str, np.ndarray]
    images: np.ndarray  # [n, C, H, W] float32 in [-1, 1], of all members in the order of `numbers`
    device: torch.device

    @cached_property
    def numbers(self) -> np.ndarray:
        """All members, each once: [n]."""
        return interleave(list(self.members.values()))

    @cached_property
    def rows(self) -> dict[int, int]:
        """The row of `images` that holds the pattern of each number."""
        return {number: row for row, number in enumerate(self.numbers.tolist())}

    def tensor(self, numbers: np.ndarray) -> torch.Tensor:
        """Return the patterns so numbered: [m, C, H, W] in [-1, 1] on the device."""
        return torch.from_numpy(self.images[[self.rows[number] for number in numbers.tolist()]]).to(self.device)


def read_distances(path: str, size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each of `count` samples to S, and to its nearest other sample: two arrays [N'].

    Raises ValueError, naming the file, where it holds none or is of another K than `size` or another number of samples.
    """
    arrays, record = read_arrays(path, "training_distances", "synthetic_distances")
    if any(array.ndim != 2 or 0 in array.shape or array.dtype.kind != "f" for array in arrays.values()):
        raise ValueError(f"{path}: not neighbours as neighbours.py writes them")
    if record.get("size") != size:
        raise ValueError(f"{path}: neighbours at K = {str(record.get('size'))[:20]}; the model has K = {size}")
    if other := {len(array) for array in arrays.values()} - {count}:
        raise ValueError(f"{path}: neighbours of {max(other)} samples; the synthetic set holds {count}")
    return arrays["training_distances"][:, 0], arrays["synthetic_distances"][:, 0]


def read_patterns(
    model: str, neighbours: str, synthetic: str, subset: str, settings: PatternSettings, seed: int, device: torch.device
) -> Patterns:
    """Return the patterns to measure: samples by `selection`, and the first images of S, as many as the settings say.

    Raises ValueError, naming the file, where neighbours, images and model do not belong together.
    """
    path, (model, record) = model, read_model(model, device)
    size, samples, images = record["size"], ImageFile(synthetic), ImageFile(subset)
    to_training, within = read_distances(neighbours, size, len(samples))
    try:
        members = members_of(to_training, within, settings.nearest, settings.repeating, settings.uniform, seed, size)
    except ValueError as error:
        raise ValueError(f"{neighbours}: {error}") from None
    first = min(size, settings.training_limit)
    if len(images) < size:
        raise ValueError(f"{subset}: holds {len(images)} images; {path} was trained on {size}")
    members["training"] = TRAINING + np.arange(first)
    numbers, shape = interleave(list(members.values())), tuple(record["image_shape"])
    read = np.empty((len(numbers), *shape), np.float32)
    for file, where, offset in ((samples, numbers < TRAINING, 0), (images, numbers >= TRAINING, TRAINING)):
        if where.any():
            found = file.read(numbers[where] - offset)
            if found.shape[1:] != shape:
                raise ValueError(f"{file.path}: images of shape {found.shape[1:]}; {path} takes {shape}")
            read[where] = found
    return Patterns(path, model, size, to_training, within, seed, members, read, torch.device(device))


def check_time(t0: int, model: Diffusion, path: str) -> None:
    """Raise ValueError where the model in `path` has no time t0."""
    if t0 >= model.steps:
        raise ValueError(f"--t0 is {t0}; {path} has times 0 to {model.steps - 1}")


def measure_patterns(
    out: str,
    script: str,
    patterns: Patterns,
    evaluate: Callable[[np.ndarray], Results],
    precise: Callable[[Results], list[np.ndarray]],
    chunk: int,
    standard_error: float,
    label: str,
    beside: Results | None = None,
    **record: Any,
) -> Measured:
    """Measure all patterns, going on where a killed run with the same settings stopped, and write the file `out`.

    script: the stage's own file. evaluate, precise, chunk: as of `measuring.measure`. The file holds `numbers`,
    `nearest`, `repeating`, `uniform` and `weight` of the samples as of `selection.Selection`, a row of each result for
    each sample, the same of training images with names that begin with `training_`, and `beside`. Real results are
    written as float32, in which networks compute them; it halves the files.
    record: settings for the header and for the identity of what a killed run leaves.
    """
    record |= {"model_sha256": file_hash(patterns.path), "seed": patterns.seed, "size": patterns.size}
    record |= {"image_shape": list(patterns.images.shape[1:]), "standard_error": standard_error}
    inputs = {"images_sha256": array_hash(patterns.images), "numbers_sha256": array_hash(patterns.numbers)}
    checkpoint = Checkpoint(out, script, patterns.device, chunk=chunk, **record, **inputs)
    with progress(None, label, "pattern", total=len(patterns.numbers)) as bar:
        found = measure(
            patterns.members, evaluate, precise, chunk, standard_error, checkpoint.load(torch.device("cpu")),
            checkpoint.save, bar.update,
        )
    chosen = select(
        patterns.to_training, patterns.within, **{name: found.counts[name] for name in GROUPS}, seed=patterns.seed,
        size=patterns.size,
    )
    sample = found.numbers < TRAINING
    arrays = chosen._asdict() | {"training_numbers": found.numbers[~sample] - TRAINING} | (beside or {})
    for name, values in found.results.items():
        written = values.astype(np.float32 if values.dtype == np.float64 else values.dtype)
        arrays |= {name: written[sample], f"training_{name}": written[~sample]}
    measured = {
        name: {"n": found.counts[name], "limit": len(members), "reached": found.reached[name]}
        for name, members in patterns.members.items()
    }
    write_arrays(out, arrays, measured=measured, **record)
    checkpoint.remove()
    return found


def summary(patterns: Patterns, found: Measured) -> str:
    """Return how many patterns were measured, in words."""
    groups = [
        f"{found.counts[name]} {name}" + ("" if (error := found.reached[name]) is None else f" ({error:.1%})")
        for name in patterns.members
    ]
    return f"{len(found.numbers)} patterns at K={patterns.size}: {', '.join(groups)}"
