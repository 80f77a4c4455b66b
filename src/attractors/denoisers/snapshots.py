"""The models along one training, as `train_snapshots` keeps them, and samples of each."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from attractors.arrays import read_arrays
from attractors.denoisers.diffusion import Diffusion
from attractors.denoisers.models import new_model
from attractors.denoisers.samplers import ancestral, sample_noise


def models_along(path: str | Path, images: np.ndarray, device: torch.device) -> Iterator[Diffusion]:
    """Yield the model of every snapshot in the file at `path`: one model, whose weights change from step to step.

    images: [1 or more, C, H, W], of the shape that the network was trained on.
    """
    arrays, record = read_arrays(path, "weights")
    shape, memories = tuple(record["image_shape"]), torch.from_numpy(np.ascontiguousarray(images))
    model = new_model(record["network"], record["diffusion"], shape, record["seed"], memories).to(device).eval()
    parameters = [p.requires_grad_(False) for p in model.parameters()]
    for weights in arrays["weights"]:
        nn.utils.vector_to_parameters(torch.from_numpy(weights).to(device), parameters)
        yield model


def drawn(model: Diffusion, count: int, seed: int, shape: tuple[int, ...], batch: int) -> np.ndarray:
    """Return `count` samples of a model by the ancestral sampler: [count, C, H, W] for the image shape (C, H, W).

    They start from the same noise, and get the same noise at each step, whatever the model.
    """
    found, device = np.empty((count, *shape), np.float32), model.alpha_bar.device
    for start in range(0, count, batch):
        indices = range(start, min(start + batch, count))
        noise = sample_noise(seed, indices, shape, model.steps, device)
        found[indices.start : indices.stop] = ancestral(model, noise).cpu().numpy()
    return found
