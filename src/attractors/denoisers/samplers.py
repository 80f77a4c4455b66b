"""Generation by ancestral DDPM and by deterministic DDIM. Each function takes a model and noise, and does no I/O."""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from attractors.denoisers.diffusion import Diffusion, Time, forward_process, times
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
        mean = torch.add(from_x_0[t] * x_0, x, alpha=from_x_t[t])  # from_x_0 x_0 + from_x_t x, rounded once
        x = torch.add(mean, next(noise), alpha=deviation[t])  # mean + deviation noise
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
def ddim(
    model: Diffusion, x: torch.Tensor, t: Time, steps: int, clip: bool = False,
    progress: Callable[[range], Iterable[int]] = lambda steps: steps,
) -> torch.Tensor:
    """Map x: [B, ...] at time t: [B] or a number, 0-based, back to t = 0 by deterministic DDIM (Phi of Alg. 1).

    It evaluates the network N' = `steps` times, at times floor(t i / N') for i = N', ..., 1. The last step returns the
    model's estimate of x_0. Where t < N', times repeat, and a repeated time leaves x unchanged. With clip, every
    estimate of x_0 is clipped to [-1, 1], as the ancestral sampler does. progress wraps range(N').
    """
    t = times(t, x)
    for i in progress(range(steps)):
        now, later = (t * (steps - i)) // steps, (t * (steps - i - 1)) // steps
        noise = model.noise_prediction(x, now)
        x_0 = model.image(x, noise, now)
        x_0 = x_0.clamp(-1, 1) if clip else x_0
        x = forward_process(x_0, noise, later, model.alpha_bar)
    return x_0
