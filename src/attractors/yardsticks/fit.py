"""Where the learned score departs from the exact one: at noised training images, or along sampling paths (Song 2025).

Song et al. 2025 call the neighbourhood of noised training images the supervision region, because a model is taught the
exact score of S_K there. Sampling leaves this region, and how the model extrapolates beyond it decides what it draws.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch

from attractors.denoisers.diffusion import Diffusion, Time
from attractors.denoisers.samplers import ancestral


class Denoiser(Protocol):
    """Whatever estimates x_0: [B, ...] from x_t of the same shape, as a `Diffusion` does."""

    def denoised(self, x: torch.Tensor, t: Time) -> torch.Tensor:
        """Return the estimate of x_0 from x at t."""
        ...


class Recorder:
    """A model that keeps the states x_t at which a sampler evaluates it, for chosen times: `states[t]` is [n, ...]."""

    def __init__(self, model: Diffusion, times: Iterable[int]) -> None:
        self.model, self.times, self.states = model, set(times), {}
        self.alpha_bar, self.betas, self.steps = model.alpha_bar, model.betas, model.steps

    def denoised(self, x: torch.Tensor, t: Time) -> torch.Tensor:
        """Return what the model returns, and keep x where t is one of the times."""
        if t in self.times:
            self.states[t] = x.clone()
        return self.model.denoised(x, t)


def path_states(model: Diffusion, noise: Iterable[torch.Tensor], times: Sequence[int]) -> list[torch.Tensor]:
    """Return the states x_t of ancestral sampling (B.4) at chosen times: a tensor [n, C, H, W] for each, in the order
    of times.

    noise is what `samplers.ancestral` takes. times: 0-based.
    """
    recorder = Recorder(model, times)
    ancestral(recorder, noise)  # type: ignore[arg-type]  # it uses only what a Recorder has
    return [recorder.states[t] for t in times]


@torch.inference_mode()
def departures(
    model: Denoiser, exact: Denoiser, states: Sequence[torch.Tensor], times: Sequence[int], batch: int = 1024
) -> np.ndarray:
    """Return the mean over pixels of the squared distance between both estimates of x_0 at each state: [L, n] float64.

    Multiplied by N alpha_bar_t / sigma_t^4 this is |s - s_exact|^2 of Song et al. 2025, since the scores differ by
    sqrt(alpha_bar_t) / sigma_t^2 times what the estimates differ by. states: L tensors [n, ...], one for each of times.
    """
    squares = np.empty((len(times), len(states[0])))
    for row, (t, x) in enumerate(zip(times, states, strict=True)):
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            off = (model.denoised(part, t) - exact.denoised(part, t)).double().square()
            squares[row, start : start + batch] = off.flatten(1).mean(1).cpu().numpy()
    return squares


class Constant:
    """The denoiser that always returns the same image: [C, H, W]. Departures from it measure how much another one
    varies.
    """

    def __init__(self, image: torch.Tensor) -> None:
        self.image = image

    def denoised(self, x: torch.Tensor, t: Time) -> torch.Tensor:
        """Return the image for each of x: [B, C, H, W]."""
        return self.image.expand_as(x)
