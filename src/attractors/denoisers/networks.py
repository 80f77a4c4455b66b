"""The networks by name: the residual MLP of A.2, the U-Net of B.4, and the exact denoiser of a finite training set."""

import inspect
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from attractors.denoisers.diffusion import noise_level
from attractors.denoisers.unet import UNet


def time_features(alpha_bar: torch.Tensor, dimension: int = 64) -> torch.Tensor:
    """Return sines and cosines of the logarithm of the noise level: [T, dimension]. The frequencies are octaves from
    1/16 up.
    """
    frequencies = 2.0 ** torch.linspace(-4, 4, dimension // 2, dtype=torch.float64)
    angles = noise_level(alpha_bar).log()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1).float() * math.sqrt(2)


class ResidualBlock(nn.Module):
    """The block h + W_2 swish(W_1 norm(h)). W_2 starts at zero, so that an untrained block passes its input through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Map h: [B, width] to [B, width]."""
        return h + self.second(F.silu(self.first(self.norm(h))))


class ResidualMLP(nn.Module):
    """The MLP of A.2 on images of any shape: time features joined to the input, residual blocks and Swish.

    One thing is added to A.2: the network gets the image twice, once as it is and once magnified where the noise is
    low. At low noise the memories differ in details of the size of the noise, which would otherwise be too small to
    see.
    """

    time_features: torch.Tensor
    gain: torch.Tensor

    def __init__(
        self, image_shape: tuple[int, ...], alpha_bar: torch.Tensor, width: int = 256, blocks: int = 3
    ) -> None:
        super().__init__()
        pixels = math.prod(image_shape)
        self.register_buffer("time_features", time_features(alpha_bar), persistent=False)
        gain = 0.3 / (noise_level(alpha_bar) + 0.05)
        self.register_buffer("gain", gain.float()[:, None], persistent=False)
        self.input = nn.Linear(2 * pixels + self.time_features.shape[1], width)
        self.blocks = nn.Sequential(*[ResidualBlock(width) for _ in range(blocks)])
        self.output = nn.Linear(width, pixels)
        nn.init.zeros_(self.output.weight)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Map x: [B, ...] and t: [B], 0-based, to a prediction of the shape of x."""
        flat = x.flatten(1)
        h = self.input(torch.cat([flat, self.gain[t] * flat, self.time_features[t]], 1))  # [B, width]
        return self.output(F.silu(self.blocks(h))).reshape(x.shape)


class ExactNoise(nn.Module):
    """The optimal noise prediction for a finite training set in closed form: Eqs. 3-5 in variance-preserving form.

    E[noise | x_t] = (x_t - sqrt(alpha_bar) sum_mu w_mu xi_mu) / sigma,
    w = softmax(-|x_t - sqrt(alpha_bar) xi_mu|^2 / (2 sigma^2)). Its weights are the memories themselves: [K, C, H, W].
    """

    alpha_bar: torch.Tensor
    memories: torch.Tensor

    def __init__(self, image_shape: tuple[int, ...], alpha_bar: torch.Tensor, memories: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("alpha_bar", alpha_bar.double(), persistent=False)
        self.register_buffer("memories", memories.float().reshape(-1, math.prod(image_shape)).clone())

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Map x: [B, C, H, W] and t: [B], 0-based, to the expected noise, shaped like x."""
        scale, variance = self.alpha_bar[t, None].sqrt().to(x), (1 - self.alpha_bar[t, None]).to(x)
        memories = self.memories.to(x.dtype)
        # |x|^2 is the same for every memory and cancels in the softmax.
        energy = scale * (x.flatten(1) @ memories.T) - scale**2 * memories.square().sum(1) / 2  # [B, K]
        x_0 = torch.softmax(energy / variance, 1) @ memories
        return ((x.flatten(1) - scale * x_0) / variance.sqrt()).reshape(x.shape)


NETWORKS = {"mlp": ResidualMLP, "unet": UNet, "exact": ExactNoise}


def check_settings(name: str, settings: dict[str, Any]) -> None:
    """Raise ValueError for a setting that the network called `name` does not have, or whose value is out of range."""
    known = {key: entry.default for key, entry in list(inspect.signature(NETWORKS[name]).parameters.items())[2:]}
    if unknown := [str(key) for key in settings if key not in known]:
        raise ValueError(f"network {name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    for key, value in settings.items():
        if key == "memories":
            continue
        many = isinstance(known[key], tuple)
        numbers: Any = (
            value if many and isinstance(value, list | tuple) and len(value) <= 16 else [None if many else value]
        )
        kinds, least, most = (int,), 1, {"width": 2**16, "attention": 2**14}.get(key, 256)
        if key in ("dropout", "multipliers"):
            kinds, least, most = (int, float), 0, (1 if key == "dropout" else 64)
        if not all(type(number) in kinds and least <= number <= most for number in numbers):
            words = f"{'a list of ' * many}{'whole ' * (kinds == (int,))}numbers from {least} to {most}"
            raise ValueError(f"network {name}: {key} is {str(value)[:80]}; it must be {words}")


def build(name: str, image_shape: tuple[int, ...], alpha_bar: torch.Tensor, /, **settings: Any) -> nn.Module:
    """Return the network called `name` for images of image_shape: (C, H, W).

    alpha_bar: [T] is the noise schedule, and settings are the network's own. Raises ValueError for an unknown name or
    setting.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(f"network.name is {str(name)[:80]!r}; it must be one of {', '.join(NETWORKS)}")
    check_settings(name, settings)
    return NETWORKS[name](image_shape, alpha_bar, **settings)
