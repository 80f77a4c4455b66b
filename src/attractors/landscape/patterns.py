"""What the stages that measure the energy landscape share: their inputs, and the patterns they measure."""

import click
import numpy as np
import torch

from attractors.data.images import read_images
from attractors.denoisers.models import read_model
from attractors.distances.detection import TYPES
from attractors.tables import read_json

TRAINING = 1 << 40  # random streams of training image i are numbered TRAINING + i, those of sample i by i


def inputs(function):
    """The options --model, --selection, --synthetic and --subset."""
    for name, text in (
        ("subset", "Images in subset order: the first K are the training set S."),
        ("synthetic", "The synthetic set S'."),
        ("selection", "The samples of each type, as classify.py selects them."),
        ("model", "The trained model."),
    ):
        function = click.option(f"--{name}", type=click.Path(dir_okay=False), required=True, help=text)(function)
    return function


def read_inputs(model, selection, synthetic, subset, limit, training, device):
    """(model, {type: (patterns: [n, C, H, W] in [-1, 1] on device, numbers: [n])}, K).

    Types are those of the selection that are not left out, up to `limit` samples of each, then `training`: the
    first `training` images of S. numbers address random streams, the same for a sample whatever else is selected.
    Raises ValueError, naming the file, where selection, images and model do not belong together.
    """
    path, (model, record) = model, read_model(model, device)
    images, chosen, size = read_images(synthetic), read_json(selection), record["size"]
    patterns = {}
    for name in TYPES:
        try:
            if not all(type(number) is int for number in chosen[name]):
                raise TypeError
            numbers = np.array(chosen[name], np.int64).reshape(-1)[:limit]
        except (KeyError, TypeError, OverflowError):
            raise ValueError(f"{selection}: no list of {name} samples; classify.py writes such a selection") from None
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(images):
            wrong = numbers.min() if numbers.min() < 0 else numbers.max()
            raise ValueError(f"{selection}: sample {wrong} of {len(images)} in {synthetic}")
        if len(numbers):
            patterns[name] = (images[numbers], numbers)
    first = read_images(subset, min(size, training))
    patterns["training"] = (first, TRAINING + np.arange(len(first)))
    for file, found in ((synthetic, images), (subset, first)):
        if found.shape[1:] != tuple(record["image_shape"]):
            raise ValueError(f"{file}: images of shape {found.shape[1:]}; {path} takes {tuple(record['image_shape'])}")
    return model, {name: (torch.from_numpy(x).to(device), numbers) for name, (x, numbers) in patterns.items()}, size


def check_time(t0, model, path):
    """Raise ValueError where the model in `path` has no time t0."""
    if t0 >= model.steps:
        raise ValueError(f"--t0 is {t0}; {path} has times 0 to {model.steps - 1}")


def left_out(patterns):
    """A remark on the types that are not among patterns."""
    missing = [name for name in TYPES if name not in patterns]
    return f"; left out, too few or none: {', '.join(missing)}" if missing else ""


def moments(values, name):
    """Columns of a table: mean and standard deviation of values: [n] or [n, M], and the mean's standard error.

    The deviation is over all values, the error over n means: trials of one pattern are not independent.
    NaN marks values that are not there. What cannot be said of so few is left empty.
    """
    values = np.asarray(values, np.float64).reshape(len(values), -1)
    present = values[np.isfinite(values)]
    means = np.array([row[np.isfinite(row)].mean() for row in values if np.isfinite(row).any()])
    return {
        name: means.mean() if len(means) else None,
        f"{name}_std": present.std(ddof=1) if len(present) > 1 else None,
        f"{name}_se": means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else None,
    }
