"""The training loop: the DDPM objective, Adam, an exponential moving average, and resuming to the same bytes."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from attractors.diffusion import forward_process
from attractors.randomness import SHUFFLING, TRAINING, generator, integer

CHECK_EVERY = 100  # steps between looks at the loss
NOISE_LEVELS = ("uniform", "lognormal")


@dataclass(frozen=True)
class Settings:
    """Training settings, as in the `train` section of a sweep; Table 3 for the paper's."""

    iterations: int
    batch: int
    learning_rate: float
    repeat: bool = False  # fill the batch by repeating images where the training set is smaller than it
    warmup: int = 0  # steps of linear warm-up
    final_learning_rate: float = 1.0  # cosine decay to this fraction
    ema: float = 0.9999
    clip: float = 1.0  # bound on the gradient's norm
    noise_levels: str = "uniform"  # uniform in t, or lognormal in sigma / sqrt(alpha_bar)


def learning_rate(step, settings):
    """Linear warm-up, then cosine decay to the final fraction."""
    progress = step / max(settings.iterations, 1)
    cosine = settings.final_learning_rate + (1 - settings.final_learning_rate) * (1 + math.cos(math.pi * progress)) / 2
    return settings.learning_rate * cosine * min(1, (step + 1) / max(settings.warmup, 1))


def batch_indices(step, count, batch, seed):
    """Images of one step: positions step*batch ... of endless passes over range(count), each pass shuffled anew."""
    positions = np.arange(step * batch, (step + 1) * batch)
    passes = {p: generator(seed, SHUFFLING, int(p)).permutation(count) for p in np.unique(positions // count)}
    return np.array([passes[p][i] for p, i in zip(positions // count, positions % count, strict=True)])


def noise_times(count, alpha_bar, noise_levels, random):
    """Times of one batch: [count], 0-based.

    uniform: Ho et al. lognormal: ln(sigma / sqrt(alpha_bar)) ~ N(-0.8, 1.2^2) (Karras et al., shifted to
    where small images are decided), rounded to the nearest of the T levels.
    """
    if noise_levels == "uniform":
        return torch.randint(len(alpha_bar), (count,), generator=random, device=alpha_bar.device)
    levels = ((1 - alpha_bar) / alpha_bar).sqrt().log()
    drawn = -0.8 + 1.2 * torch.randn(count, generator=random, device=alpha_bar.device).double()
    return torch.bucketize(drawn, (levels[1:] + levels[:-1]) / 2)


def train(model, images, settings, seed, state=None, save=lambda state: None, progress=lambda steps: steps):
    """Train `model` on images: [K, C, H, W] in [-1, 1]; return the averaged weights as a state dict.

    The loss is |prediction - target|^2 averaged over pixels (Ho et al., L_simple). Every step draws from
    its own generator, so training from a saved `state` ends with the bytes of an uninterrupted one.
    state, save: what `save` was last given, and a function called with it now and then.
    progress: wraps range(start, iterations); may have `set_postfix`. Raises FloatingPointError on a loss that
    is not finite.
    """
    device = images.device
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters or settings.iterations == 0:
        return model.state_dict()
    count, batch = len(images), settings.batch if settings.repeat else min(len(images), settings.batch)
    optimiser = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
    average = [p.detach().clone() for p in parameters]
    start, random = 0, torch.Generator(device)
    if state is not None:
        start = state["step"]
        for live, saved in zip([*parameters, *average], state["parameters"] + state["average"], strict=True):
            live.data.copy_(saved)
        optimiser.load_state_dict(state["optimiser"])

    steps = progress(range(start, settings.iterations))
    for step in steps:
        random.manual_seed(integer(seed, TRAINING, step))
        x_0 = images[torch.from_numpy(batch_indices(step, count, batch, seed)).to(device)]
        t = noise_times(batch, model.alpha_bar, settings.noise_levels, random)
        noise = torch.randn(x_0.shape, generator=random, device=device)
        prediction = model.network(forward_process(x_0, noise, t, model.alpha_bar), t)
        loss = (prediction - model.target(x_0, noise, t)).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings)
        optimiser.step()
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - min(settings.ema, (1 + step) / (10 + step)))
        if (step + 1) % CHECK_EVERY == 0 or step + 1 == settings.iterations:
            if not math.isfinite(value := loss.item()):
                raise FloatingPointError(
                    f"the loss is {value} at step {step + 1}: lower learning_rate (now {settings.learning_rate:g})"
                )
            if hasattr(steps, "set_postfix"):
                steps.set_postfix(loss=f"{value:.4f}", refresh=False)
            save(
                {
                    "step": step + 1,
                    "parameters": [p.detach() for p in parameters],
                    "average": average,
                    "optimiser": optimiser.state_dict(),
                }
            )
    for live, mean in zip(parameters, average, strict=True):
        live.data.copy_(mean)
    return model.state_dict()
