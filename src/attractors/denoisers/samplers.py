"""Generation by ancestral DDPM and by deterministic DDIM. Each function takes a model and noise, and does no I/O."""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from attractors.denoisers.diffusion import Diffusion, Time, expand, times
from attractors.randomness import SAMPLING, generator

NOISE_STEPS, NOISE_BYTES = 50, 2**26  # the most steps, and bytes, of noise that are drawn at a time


@torch.inference_mode()
def ancestral(
    model: Diffusion, noise: Iterable[torch.Tensor], progress: Callable[[range], Iterable[int]] = lambda steps: steps
) -> torch.Tensor:
    """Sample by the ancestral sampler of Ho et al., with x_0 clipped to [-1, 1] and the smaller of the two fixed
    variances.

    noise yields T + 1 tensors [B, C, H, W]: the start x_T, then the noise of steps T-1, ..., 0. progress wraps the
    times. Returns images [B, C, H, W] in [-1, 1]. The host waits for the device in no step.
    """
    alpha_bar, betas = model.alpha_bar, model.betas
    previous = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    variance = betas * (1 - previous) / (1 - alpha_bar)
    from_x_0 = (betas * previous.sqrt() / (1 - alpha_bar)).tolist()
    from_x_t = ((1 - previous) * (1 - betas).sqrt() / (1 - alpha_bar)).tolist()
    deviation = variance.sqrt().tolist()
    noise = iter(noise)
    x = next(noise).contiguous()
    for t in progress(range(model.steps - 1, -1, -1)):
        x_0 = model.denoised(x, t).clamp_(-1, 1)
        x = (from_x_0[t] * x_0).add_(x, alpha=from_x_t[t]).add_(next(noise), alpha=deviation[t])
    return x


def _fill(block: torch.Tensor, generators: list[np.random.Generator]) -> torch.Tensor:
    """Draw the next numbers of each generator into its row of block: [B, ...] float32, on the CPU; return block."""
    for random, row in zip(generators, block.numpy(), strict=True):
        random.standard_normal(dtype=np.float32, out=row)
    return block


def sample_noise(
    seed: int, indices: Iterable[int], image_shape: tuple[int, ...], steps: int, device: torch.device | str = "cpu"
) -> Iterator[torch.Tensor]:
    """Yield the noise of the samples numbered `indices`: T + 1 tensors [B, C, H, W], where T is `steps`.

    Each sample has its own generator, so its noise does not depend on the others in the batch. A thread draws the next
    steps while the present ones are in use; how many are drawn at a time changes no number.
    """
    device, generators = torch.device(device), [generator(seed, SAMPLING, int(index)) for index in indices]
    length = max(1, min(NOISE_STEPS, NOISE_BYTES // (4 * math.prod(image_shape) * len(generators))))
    blocks = [min(length, steps + 1 - start) for start in range(0, steps + 1, length)]

    with ThreadPoolExecutor(1) as thread:

        def ahead(size: int) -> Future:  # pinned memory: the copy to the device then needs no waiting
            empty = torch.empty(len(generators), size, *image_shape, pin_memory=device.type == "cuda")
            return thread.submit(_fill, empty, generators)

        drawing = ahead(blocks[0])
        for following in [*blocks[1:], None]:
            block = drawing.result()  # [B, steps, C, H, W]
            if following:
                drawing = ahead(following)
            yield from block.to(device, non_blocking=True).unbind(1)


@torch.inference_mode()
def ddim(model: Diffusion, x: torch.Tensor, t: Time, steps: int) -> torch.Tensor:
    """Map x: [B, ...] at time t: [B] or a number, 0-based, back to t = 0 by deterministic DDIM (Phi of Alg. 1).

    It evaluates the network N' = `steps` times, at times floor(t i / N') for i = N', ..., 1. The last step returns the
    model's estimate of x_0, without clipping. Where t < N', times repeat, and a repeated time leaves x unchanged.
    """
    t = times(t, x)
    for i in range(steps):
        now = (t * (steps - i)) // steps
        later = (t * (steps - i - 1)) // steps
        noise = model.noise_prediction(x, now)
        x_0 = (x - expand((1 - model.alpha_bar).sqrt(), now, x) * noise) / expand(model.alpha_bar.sqrt(), now, x)
        if i == steps - 1:
            return x_0
        x = expand(model.alpha_bar.sqrt(), later, x) * x_0 + expand((1 - model.alpha_bar).sqrt(), later, x) * noise
    return x
