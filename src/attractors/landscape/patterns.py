"""What the measurements of the energy landscape share: the patterns that they measure, and the files they write."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from attractors.arrays import array_hash, read_arrays, write_arrays
from attractors.data.images import ImageFile
from attractors.denoisers.checkpoints import Checkpoint
from attractors.denoisers.diffusion import Diffusion
from attractors.denoisers.models import read_model
from attractors.files import file_hash
from attractors.landscape.measuring import MeasuredPatterns, Results, measure
from attractors.landscape.selection import GROUPS, interleave, members_of, select
from attractors.settings.patterns import Patterns

TRAINING = 1 << 40  # random streams of training image i are numbered TRAINING + i, those of sample i by i


@dataclass(frozen=True)
class ModelPatterns:
    """A model of K training images, samples of its synthetic set, and the training images beside them.

    members: the numbers of each group's patterns; of training image i it is TRAINING + i. These address random streams,
    the same for a sample whatever else is measured.
    """

    path: str  # of the model
    model: Diffusion
    subset: ImageFile  # all images in subset order
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
    model: str, neighbours: str, synthetic: str, subset: str, settings: Patterns, seed: int, device: torch.device
) -> ModelPatterns:
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
            rows = file.read(numbers[where] - offset)
            if rows.shape[1:] != shape:
                raise ValueError(f"{file.path}: images of shape {rows.shape[1:]}; {path} takes {shape}")
            read[where] = rows
    return ModelPatterns(path, model, images, size, to_training, within, seed, members, read,
                         torch.device(device))


def check_time(t0: int, model: Diffusion, path: str) -> None:
    """Raise ValueError where the model in `path` has no time t0."""
    if t0 >= model.steps:
        raise ValueError(f"--t0 is {t0}; {path} has times 0 to {model.steps - 1}")


@dataclass(frozen=True)
class Measurement:
    """How one quantity is measured: what a stage returns to `cli.measurement`.

    evaluate, precise, chunk: as of `measuring.measure`. record: the settings, for the header of the file. sentence:
    maps the summary of the patterns and the results to what the command prints. beside: more arrays of the file.
    """

    evaluate: Callable[[np.ndarray], Results]
    precise: Callable[[Results], list[np.ndarray]]
    chunk: int
    record: dict[str, Any]
    sentence: Callable[[str, Results], str]
    beside: Results = field(default_factory=dict)


def measure_patterns(
    out: str, script: str, patterns: ModelPatterns, how: Measurement, standard_error: float,
    tick: Callable[[int], object] = lambda count: None,
) -> MeasuredPatterns:
    """Measure all patterns, going on where a killed run with the same settings stopped, and write the file `out`.

    script: the stage's own file. standard_error: at which a group ends. tick: is called with numbers of patterns done.
    The file holds `numbers`, `nearest`, `repeating`, `uniform` and `weight` of the samples as of `selection.Selection`,
    a row of each result for each sample, the same of training images with names that begin with `training_`, and
    `how.beside`. Real results are written as float32, in which networks compute them; it halves the files.
    """
    record = how.record | {"model_sha256": file_hash(patterns.path), "seed": patterns.seed, "size": patterns.size}
    record |= {"image_shape": list(patterns.images.shape[1:]), "standard_error": standard_error}
    inputs = {"images_sha256": array_hash(patterns.images), "numbers_sha256": array_hash(patterns.numbers)}
    checkpoint = Checkpoint(out, script, patterns.device, chunk=how.chunk, **record, **inputs)
    measured = measure(
        patterns.members, how.evaluate, how.precise, how.chunk, standard_error, checkpoint.load(torch.device("cpu")),
        checkpoint.save, tick,
    )
    chosen = select(patterns.to_training, patterns.within, **{name: measured.counts[name] for name in GROUPS},
                    seed=patterns.seed, size=patterns.size)
    sample = measured.numbers < TRAINING
    arrays = chosen._asdict() | {"training_numbers": measured.numbers[~sample] - TRAINING} | how.beside
    for name, values in measured.results.items():
        written = values.astype(np.float32 if values.dtype == np.float64 else values.dtype)
        arrays |= {name: written[sample], f"training_{name}": written[~sample]}
    groups = {
        name: {"n": measured.counts[name], "limit": len(members), "reached": measured.reached[name]}
        for name, members in patterns.members.items()
    }
    write_arrays(out, arrays, measured=groups, **record)
    checkpoint.remove()
    return measured


def summary(patterns: ModelPatterns, measured: MeasuredPatterns) -> str:
    """Return how many patterns were measured, in words."""
    groups = [
        f"{measured.counts[name]} {name}" + ("" if (error := measured.reached[name]) is None else f" ({error:.1%})")
        for name in patterns.members
    ]
    return f"{len(measured.numbers)} patterns at K={patterns.size}: {', '.join(groups)}"
