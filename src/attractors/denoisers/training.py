"""The training loop: the DDPM objective, Adam, an exponential moving average, and resuming to the same bytes."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from attractors.denoisers.diffusion import Diffusion, forward_process, noise_level, scale_and_sigma
from attractors.denoisers.distributed import rank, shard, total
from attractors.randomness import DROPOUT, SHUFFLING, TRAINING, generator, integer
from attractors.settings.train import Optimisation, Training

CHECK_EVERY = 100  # steps between looks at the loss
SMALLEST_SIGMA = 0.1  # where predictions of the image stop gaining weight: 1 / sigma^2 has no bound
Loss = Callable[[Any, torch.Tensor, Any, torch.Generator], torch.Tensor]


def learning_rate(step: int, settings: Optimisation) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine decay to the final fraction."""
    progress = step / max(settings.iterations, 1)
    cosine = settings.final_learning_rate + (1 - settings.final_learning_rate) * (1 + math.cos(math.pi * progress)) / 2
    return settings.learning_rate * cosine * min(1, (step + 1) / max(settings.warmup, 1))


def batch_indices(start: int, stop: int, count: int, batch: int, seed: int) -> np.ndarray:
    """Return the numbers of the images in the batches of steps start..stop-1: [stop - start, batch].

    Batches are consecutive pieces of endless passes over range(count), each pass shuffled anew.
    """
    passes = range(start * batch // count, -(-stop * batch // count))
    order = np.concatenate([generator(seed, SHUFFLING, p).permutation(count) for p in passes])
    offset = start * batch - passes.start * count
    return order[offset : offset + (stop - start) * batch].reshape(-1, batch)


def noise_times(count: int, alpha_bar: torch.Tensor, settings: Training, random: torch.Generator) -> torch.Tensor:
    """Draw the times of one batch: [count], 0-based.

    With noise_levels `uniform` they are uniform, as in Ho et al. With `lognormal`, ln(sigma / sqrt(alpha_bar)) ~
    N(noise_mean, noise_deviation^2) as in Karras et al., rounded to the nearest of the T levels. The defaults draw low
    noise, which determines the width of attractors, more often than theirs.
    """
    if settings.noise_levels == "uniform":
        return torch.randint(len(alpha_bar), (count,), generator=random, device=alpha_bar.device)
    levels = noise_level(alpha_bar).log()
    normal = torch.randn(count, generator=random, device=alpha_bar.device).double()
    return torch.bucketize(settings.noise_mean + settings.noise_deviation * normal, (levels[1:] + levels[:-1]) / 2)


def flatten(parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """Make all parameters views of one vector, and their gradients views of its gradient; return the vector.

    Clipping, stepping and averaging one vector takes one operation each, where a list takes one for every layer.
    """
    vector = torch.cat([p.detach().reshape(-1) for p in parameters])
    vector.grad = torch.zeros_like(vector)
    offset = 0
    for p in parameters:
        p.data = vector[offset : offset + p.numel()].view_as(p)
        p.grad = vector.grad[offset : offset + p.numel()].view_as(p)
        offset += p.numel()
    return vector


def default_generator(device: torch.device) -> Any:
    """Return the generator from which dropout on `device` draws, to call its manual_seed.

    torch's own manual_seed seeds every kind of device, which is slow.
    """
    return torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator


def denoising_loss(model: Diffusion, x_0: torch.Tensor, settings: Training, random: torch.Generator) -> torch.Tensor:
    """Return the loss L_simple of Ho et al. at x_0: [B, ...] and random times: |prediction - target|^2 over pixels.

    A prediction of the image is compared as the velocity v = (sqrt(alpha_bar) x - x_0) / sigma that it implies: its
    error is divided by sigma, or by SMALLEST_SIGMA where sigma is smaller. Without these weights, high noise, where the
    image is least certain, would outweigh low noise, where its details are decided. Where several processes train one
    model, each draws times and noise for the whole batch and returns what its images contribute to the average.
    """
    t = noise_times(len(x_0), model.alpha_bar, settings, random)
    noise = torch.randn(x_0.shape, generator=random, device=x_0.device)
    part = shard(len(x_0))
    share, x_0, noise, t = len(x_0[part]) / len(x_0), x_0[part], noise[part], t[part]
    if not share:  # more processes than images
        return torch.stack([p.sum() for p in model.parameters()]).sum() * 0
    error = model.network(forward_process(x_0, noise, t, model.alpha_bar), t) - model.target(x_0, noise, t)
    if model.prediction == "image":
        error = error / scale_and_sigma(t, x_0, model.alpha_bar)[1].clamp(min=SMALLEST_SIGMA)
    return error.square().mean() * share


def train(
    model: nn.Module, images: torch.Tensor, settings: Optimisation, seed: int, state: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], object] = lambda state: None,
    progress: Callable[[range], Iterable[int]] = lambda steps: steps, loss: Loss = denoising_loss,
) -> dict[str, torch.Tensor]:
    """Train `model` on images: [K, ...] in [-1, 1]; return the averaged weights as a state dict.

    loss maps (model, a batch, settings, the step's torch generator) to a number. Every step draws from its own
    generator and seeds torch's generator for dropout (whose state is restored at the end), so training from a saved
    `state` ends with the same bytes as uninterrupted training. Under torch.distributed, gradients are summed over
    processes. state is what `save` was last given, or None; `save` is called with the state every CHECK_EVERY steps.
    progress wraps range(start, iterations), and may have `set_postfix`. Raises FloatingPointError if the loss is not
    finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters or settings.iterations == 0:
        return model.state_dict()
    device, count = images.device, len(images)
    batch = settings.batch if settings.repeat else min(count, settings.batch)
    weights = flatten(parameters)
    gradient = weights.grad
    assert gradient is not None  # `flatten` set it
    average = weights.clone()
    optimiser = torch.optim.Adam([weights], lr=settings.learning_rate, fused=True)
    start, random, dropout = 0, torch.Generator(device), default_generator(device)
    if state is not None:
        start = state["step"]
        weights.copy_(state["weights"])
        average.copy_(state["average"])
        optimiser.load_state_dict(state["optimiser"])

    steps = progress(range(start, settings.iterations))
    model.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for step in steps:
            if step % CHECK_EVERY == 0 or step == start:
                first, stop = step, (step // CHECK_EVERY + 1) * CHECK_EVERY
                indices = torch.from_numpy(batch_indices(first, stop, count, batch, seed)).to(device)
            random.manual_seed(integer(seed, TRAINING, step))
            dropout.manual_seed(integer(seed, DROPOUT, rank() << 40 | step))
            x_0 = images[indices[step - first]]
            value = loss(model, x_0, settings, random)
            gradient.zero_()
            value.backward()
            total(gradient)
            gradient.mul_((settings.clip / (gradient.norm() + 1e-6)).clamp(max=1))
            optimiser.param_groups[0]["lr"] = learning_rate(step, settings)
            optimiser.step()
            average.lerp_(weights, 1 - min(settings.ema, (1 + step) / (10 + step)))
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == settings.iterations:
                if not math.isfinite(value := total(value.detach()).item()):
                    advice = f"lower learning_rate (now {settings.learning_rate:g})"
                    raise FloatingPointError(f"the loss is {value} at step {step + 1}: {advice}")
                if hasattr(steps, "set_postfix"):
                    steps.set_postfix(loss=f"{value:.4f}", refresh=False)
                save({"step": step + 1, "weights": weights, "average": average, "optimiser": optimiser.state_dict()})
    model.eval()
    weights.copy_(average)
    return model.state_dict()
