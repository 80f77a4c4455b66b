"""Plan a sweep for images of one's own: the settings, and the sizes around the expected transition.

The rules come from the sweeps of this repository: digits (a residual MLP), and MNIST, Fashion-MNIST and CIFAR-10 on a
desk (a U-Net on patches).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from attractors.data.subsets import nested_order
from attractors.denoisers.models import new_model
from attractors.denoisers.samplers import ancestral, sample_noise
from attractors.denoisers.training import train
from attractors.distances.neighbours import nearest
from attractors.distances.thresholds import copy_bound
from attractors.settings.train import Training

LARGEST = 32  # pixels to a side that two cores learn in minutes
SMALL = 96  # values of an image that a residual MLP can return: at most its width
GRID = (1 / 8, 1 / 3, 0.6, 0.8, 1, 1.3, 2, 5)  # the sizes of a sweep, in units of the expected half
REPEATED = (0.8, 1, 1.3)  # those with three replicates
SHARE = 0.5  # of the processor's time, for training; sampling and measurements take the rest
PILOT = 4  # a pilot takes so many times fewer steps than a model of the sweep
SPREAD = 1.5  # a pilot's half is right within about this factor (docs/tutorial.md)
SEEN = {"mlp": 60_000, "unet": 1_200}  # times that each image was seen where half of the samples were copies
MOST = 12_000  # steps beyond which nothing was tried


def reduced(images: np.ndarray, largest: int = LARGEST) -> np.ndarray:
    """Return images: [n, C, H, W] in [-1, 1] with the shorter side at most `largest`, both multiples of 4 if above 12.

    They are averaged over areas, and what a multiple leaves over is cut off evenly.
    """
    height, width = images.shape[2:]
    scale = min(1, largest / min(height, width))
    sides = [max(1, round(side * scale)) for side in (height, width)]
    if scale < 1:
        parts = torch.from_numpy(np.ascontiguousarray(images)).split(256)
        images = torch.cat([F.interpolate(x, sides, mode="area") for x in parts]).numpy()
    if min(sides) > 12:
        for axis, side in enumerate(sides, 2):
            images = np.take(images, range(side % 4 // 2, side % 4 // 2 + side // 4 * 4), axis)
    return images


@dataclass
class Plan:
    """The settings of a sweep by section, and what they rest on. Sizes are set by `place`."""

    shape: tuple[int, ...]  # (C, H, W)
    count: int  # images
    spacing: float  # Euclidean distance of one of 64 images to the nearest other one: the median
    perceptual: bool  # whether distances are LPIPS
    sections: dict[str, Any] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)

    def words(self) -> list[str]:
        """Return lines on what was chosen, and why."""
        network, training = self.sections["network"], self.sections["train"]
        channels, height, width = self.shape
        made = "the MLP of A.2" if network["name"] == "mlp" else f"a U-Net on patches of {network['patch']} pixels"
        noise = f"; noise about ln sigma = {training['noise_mean']}" if "noise_mean" in training else ""
        return [
            f"{self.count} images of {height} x {width} x {channels}, neighbours {self.spacing:.3g} apart{noise}",
            f"{made}; distances by {'LPIPS (AlexNet)' if self.perceptual else 'L2'}",
        ]


def settings(images: np.ndarray, seed: int) -> Plan:
    """Return the settings that follow from images: [n, C, H, W] in [-1, 1] alone, not from the time that there is.

    Raises ValueError for fewer than 64 images, and for images that are all alike.
    """
    count, shape = len(images), images.shape[1:]
    if count < 64:
        raise ValueError(f"{count} images; a transition needs at least 64, and some hundreds to be found")
    first = images[nested_order(count, seed)[:64]].reshape(64, -1)
    spacing = float(np.median(nearest(first, first, 1, True)[0]))
    if not spacing > 0:
        raise ValueError("most of 64 images are exact copies of another: remove them first (attractors audit)")
    mlp, perceptual = math.prod(shape) <= SMALL, shape[0] == 3 and min(shape[1:]) >= 32
    side = min(shape[1:])
    common = {"repeat": True, "warmup": 200, "final_learning_rate": 0.01, "ema": 0.999, "noise_levels": "lognormal"}
    if mlp:
        sections: dict[str, Any] = {
            "network": {"name": "mlp", "width": 96}, "diffusion": {"prediction": "velocity"},
            "train": {"batch": 256, "learning_rate": 0.003, **common},
        }
    else:
        patch = next(p for p in (4 if side >= 24 else 2, 1) if not (shape[1] % p or shape[2] % p))
        sections = {
            "network": {"name": "unet", "width": 64, "multipliers": [1], "blocks": 1, "attention": [], "patch": patch},
            "diffusion": {"prediction": "image", "steps": 100, "beta_min": 0.001, "beta_max": 0.2},
            "train": {
                "batch": 16, "learning_rate": 0.002, **common,
                # images are told from each other at a noise of a third of their spacing
                "noise_mean": round(math.log(spacing / 3) - 0.9, 1), "noise_deviation": 1.5,
            },
        }
    t = 40 if mlp else 4  # sigma is 0.14 to 0.16, one grey level
    distance = {} if perceptual else {"distance": "l2"}
    delta = 0.03 if perceptual else float(f"{spacing / 8:.1g}")  # digits 0.6, MNIST 2
    sections |= {
        "sample": {"floor": 512}, "neighbours": {"distance": "lpips_alex" if perceptual else "l2"},
        "basin": {**distance, "delta_d": delta, "trials": 8, "steps": 5, "stride": t},
        "curvature": {"t0": t, "methods": ["jacobian"], "batch": 512}, "energy": {"t0": t},
        "yardsticks": {"t0": 50 if mlp else 5, "full": 64, "samples": 32, "images": 64},
        "census": {"t": 20 if mlp else 4, "starts": 64, "steps": 300, "trials": 4, "states": 4},
    }
    return Plan(tuple(shape), count, spacing, perceptual, sections)


def within(plan: Plan, seconds: float, step: float, evaluation: float) -> None:
    """Set the steps of training and the numbers of patterns so that the sweep takes so many seconds of one core.

    step, evaluation: seconds of one step of training, and of one evaluation of the network for one image.
    Raises ValueError where too few seconds are left.
    """
    models = len(GRID) + 2 * len(REPEATED)
    if SHARE * seconds / models < 1000 * step:  # without replicates
        models = len(GRID)
    steps = min(MOST, int(SHARE * seconds / (models + 1) / step / 100) * 100)  # one more for the pilot
    if steps < 400:
        raise ValueError(f"{seconds / 60:.0f} minutes of a core are {max(0, steps)} steps a model; 400 are the least")
    plan.sections["train"] |= {"iterations": steps, "warmup": min(200, steps // 10)}
    plan.repeated = [1] * (models > len(GRID))
    left, pixels = SHARE * seconds / models / evaluation, math.prod(plan.shape)  # evaluations for each model
    for section, share, cost in (("basin", 0.15, 4 * 8 * 5 * 12), ("curvature", 0.2, 4 * 2 * pixels),
                                 ("energy", 0.1, 4 * 4 * 20)):
        number = int(np.clip(share * left / cost, 2, 96))
        plan.sections[section] |= dict.fromkeys(("nearest", "repeating", "uniform", "training_limit"), number)


def answer(plan: Plan, half: float) -> str:
    """Return what the expected half says: at how many images copying stops."""
    steps = f"after {plan.sections['train']['iterations']:,} steps"
    if not half:
        return f"not even two images are copied {steps}: more minutes would show a transition"
    if half > plan.count:
        return f"all {plan.count} images are still copied {steps}: more images or fewer minutes would show a transition"
    low, high = half / SPREAD, half * SPREAD
    return f"half of the samples are copies {steps} at about K = {half:.0f} ({low:.0f} to {high:.0f})"


def place(plan: Plan, half: float) -> None:
    """Set the sizes of the sweep around the K at which half of the samples are expected to be memorized."""
    half = min(max(half, 16), plan.count)
    most = plan.count - 64 if plan.perceptual else plan.count
    plan.sizes = sorted({int(np.clip(round(half * ratio), 2, most)) for ratio in GRID})
    if plan.perceptual:  # real images beside the samples, that no network learned
        plan.sections["quality"] = {"images": min(512, (plan.count - plan.sizes[-1]) // 2)}
    if plan.repeated:
        plan.repeated = sorted({int(np.clip(round(half * ratio), 2, most)) for ratio in REPEATED})


def memorized(
    plan: Plan, images: np.ndarray, size: int, steps: int, seed: int, samples: int = 96,
    progress: Callable[[range], Any] = lambda steps: steps,
) -> float:
    """Return the share of samples that a network copies, trained for some steps on `size` of the images (Eq. 9, L2)."""
    s = torch.from_numpy(np.ascontiguousarray(images[nested_order(len(images), seed)[:size]]))
    model = new_model(plan.sections["network"], plan.sections["diffusion"], plan.shape, seed, s)
    chosen = Training(**plan.sections["train"] | {"iterations": steps, "warmup": steps // 10})
    train(model, s, chosen, seed, progress=progress)
    model.requires_grad_(False).eval()
    drawn = ancestral(model, sample_noise(seed, range(samples), plan.shape, model.steps, torch.device("cpu")))
    flat = s.flatten(1)
    bound = copy_bound(nearest(flat, flat, 1, True)[0][:, 0].numpy())
    return float((nearest(drawn.flatten(1), flat, 1)[0][:, 0] <= bound).float().mean())


def pilot(plan: Plan, copied: Callable[[int, int], float]) -> Iterator[tuple[int, float, float]]:
    """Yield (K, the share of copies, the half expected of the sweep) of models with a PILOT-th of its steps.

    copied: maps K and the steps to the share. K is doubled or halved until one half lies between two
    sizes; there the half is that of a straight line in ln K, and it grows in proportion to the steps. The last half is
    the prediction. It is infinite where all images are still copied, and 0 where not even two are.
    """
    steps, shares = plan.sections["train"]["iterations"] // PILOT, {}
    batch, seen = plan.sections["train"]["batch"], SEEN[plan.sections["network"]["name"]]
    size = int(np.clip(steps * batch / seen, 4, plan.count))
    while size not in shares and len(shares) < 6:
        shares[size] = copied(size, steps)
        above, below = ([k for k in shares if (shares[k] > 0.5) == high] for high in (True, False))
        low, high = max(above, default=0), min((k for k in below if k > max(above, default=0)), default=0)
        half = math.inf if not high else 0.0
        if low and high:
            share = (shares[low] - 0.5) / (shares[low] - shares[high])
            half = PILOT * math.exp(math.log(low) + share * math.log(high / low))
        yield size, shares[size], half
        if low and high:
            return
        size = min(2 * size, plan.count) if low else max(size // 2, 2)
