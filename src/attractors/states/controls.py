"""Samples of denoisers without learning, and their types."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from attractors.denoisers.models import new_model
from attractors.denoisers.samplers import ddim
from attractors.devices import to_device
from attractors.distances.detection import TYPES, classify, fractions
from attractors.distances.neighbours import nearest
from attractors.randomness import SAMPLING, generator
from attractors.states.repetition import repetition_chance


def control_samples(
    network: Mapping[str, Any], diffusion: Mapping[str, Any], memories: torch.Tensor, count: int, steps: int, seed: int,
    batch: int = 256, progress: Callable[[range], Iterable[int]] = iter,
) -> np.ndarray:
    """Return `count` samples of a closed form by DDIM in `steps` steps: [n, C, H, W].

    network, diffusion: sections of a sweep's file, of which `prediction` is not used, because closed forms predict the
    noise. memories: [K, C, H, W] on the device. Sample i starts at noise of its own (`seed`, SAMPLING, i), the same for
    every network.
    """
    shape = tuple(memories.shape[1:])
    model = new_model(network, {**diffusion, "prediction": "noise"}, shape, seed, memories.cpu()).to(memories.device)
    samples = np.empty((count, *shape), np.float32)
    for start in progress(range(0, count, batch)):
        rows = range(start, min(start + batch, count))
        noise = np.stack([generator(seed, SAMPLING, i).standard_normal(shape, np.float32) for i in rows])
        x = to_device(noise, memories.device)
        times = torch.full((len(x),), model.steps - 1, device=x.device)
        samples[rows.start : rows.stop] = ddim(model, x, times, steps).cpu().numpy()
    return samples


def described(samples: np.ndarray, memories: np.ndarray, delta: float) -> dict[str, float]:
    """Return the shares of the types of samples at delta_m = delta_s = delta, C_2 of those not memorized, and medians.

    samples: [n, ...], memories: [K, ...]. The result has a share for each of TYPES, `C_2` and `C_2_error`, and the
    median distances `to_training` and `within`.
    """
    x, xi = (part.reshape(len(part), -1) for part in (samples, memories))
    to_training = nearest(x, xi, 1)[0][:, 0].cpu().numpy()
    within = nearest(x, x, 1, True)[0][:, 0].cpu().numpy()
    codes = classify(to_training, within, delta, delta)
    chance, error = repetition_chance(x[codes != 0], delta)
    medians = {"to_training": float(np.median(to_training)), "within": float(np.median(within))}
    return dict(zip(TYPES, fractions(codes).tolist(), strict=True)) | {"C_2": chance, "C_2_error": error} | medians
