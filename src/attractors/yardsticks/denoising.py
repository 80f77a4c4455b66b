"""Denoising errors by noise level, at images that a model was trained on and at others (Kadkhodaie et al. 2023)."""

from collections.abc import Sequence

import numpy as np
import torch

from attractors.denoisers.diffusion import Diffusion, forward_process, noise_level


def level_times(alpha_bar: torch.Tensor, count: int) -> list[int]:
    """Return at most `count` different times, 0-based and ascending, evenly spaced in the logarithm of the noise level.

    alpha_bar: [T]. The first time is 0 and the last is T - 1.
    """
    logs = noise_level(alpha_bar.double().cpu()).log().numpy()
    wanted = np.linspace(logs[0], logs[-1], count)
    return np.unique(np.abs(logs - wanted[:, None]).argmin(1)).tolist()


@torch.inference_mode()
def denoising_errors(
    model: Diffusion, images: torch.Tensor, noise: torch.Tensor, times: Sequence[int], batch: int = 1024
) -> np.ndarray:
    """Return the mean over pixels of |E[x_0 | x_t] - x_0|^2 by the model, at each time and image: [L, n] float64.

    images, noise: [n, C, H, W]; an image gets the same noise at every time. times: [L], 0-based. batch is the number of
    network evaluations at a time.
    """
    errors = np.empty((len(times), len(images)))
    for row, t in enumerate(times):
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            x_t = forward_process(images[part], noise[part], t, model.alpha_bar)
            off = (model.denoised(x_t, t) - images[part]).double().square()
            errors[row, part] = off.flatten(1).mean(1).cpu().numpy()
    return errors
