"""The networks by name: the residual MLP of A.2, the U-Net of B.4, a transformer, diffusers' own, closed forms."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from attractors.denoisers.controls import ExactNoise, LocalNoise, SmoothedNoise
from attractors.denoisers.diffusion import noise_level, time_features
from attractors.denoisers.dit import DiT
from attractors.denoisers.through_diffusers import DiffusersNetwork
from attractors.denoisers.unet import UNet
from attractors.settings.network import CLOSED_FORM
from attractors.settings.section import Section


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

    One thing is added to A.2: the network gets the image a second time, magnified where the noise is low. There the
    memories differ in details of the size of the noise, which the network would otherwise not resolve.
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


class LinearNoise(nn.Module):
    """The optimal linear noise prediction for a finite training set, which is that of Gaussian images.

    E[noise | x_t] = sigma (alpha_bar Sigma + sigma^2)^-1 (x_t - sqrt(alpha_bar) mu) for images N(mu, Sigma), with the
    mean and the covariance (divided by K) of the training set. Its weights are mu: [P], the principal axes as columns:
    [P, P], and the variances along them: [P], for images of P pixels.
    """

    alpha_bar: torch.Tensor
    mean: torch.Tensor
    axes: torch.Tensor
    variances: torch.Tensor

    def __init__(self, image_shape: tuple[int, ...], alpha_bar: torch.Tensor, memories: torch.Tensor) -> None:
        super().__init__()
        pixels = math.prod(image_shape)
        self.register_buffer("alpha_bar", alpha_bar.double(), persistent=False)
        mean, axes, variances = torch.zeros(pixels), torch.zeros(pixels, pixels), torch.zeros(pixels)
        if len(memories) and not memories.is_meta:  # else a model is being read, and its weights follow
            images = memories.double().reshape(len(memories), pixels)
            mean = images.mean(0)
            variances, axes = torch.linalg.eigh((images - mean).T @ (images - mean) / len(images))
        self.register_buffer("mean", mean.float())
        self.register_buffer("axes", axes.float())
        self.register_buffer("variances", variances.clamp(min=0).float())

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Map x: [B, C, H, W] and t: [B], 0-based, to the expected noise, shaped like x."""
        alpha_bar = self.alpha_bar[t, None].to(x)
        mean, axes, variances = (weight.to(x.dtype) for weight in (self.mean, self.axes, self.variances))
        along = (x.flatten(1) - alpha_bar.sqrt() * mean) @ axes
        # 1 - alpha_bar is taken in float64: it loses its digits where there is little noise.
        sigma = (1 - self.alpha_bar[t, None]).sqrt().to(x)
        return ((sigma / (alpha_bar * variances + sigma**2) * along) @ axes.T).reshape(x.shape)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "mlp": ResidualMLP, "unet": UNet, "dit": DiT, "diffusers": DiffusersNetwork, "exact": ExactNoise,
    "linear": LinearNoise, "smoothed": SmoothedNoise, "local": LocalNoise,
}


def build(
    settings: Section, image_shape: tuple[int, ...], alpha_bar: torch.Tensor, memories: torch.Tensor | None = None
) -> nn.Module:
    """Return the network that `settings` describes, for images of image_shape: (C, H, W).

    alpha_bar: [T] is the noise schedule. memories: [K, C, H, W] in [-1, 1] are used by the closed forms alone.
    Raises ValueError for images that the network cannot take.
    """
    values = settings.model_dump()
    name = values.pop("name")
    if name in CLOSED_FORM:
        values["memories"] = memories
    return NETWORKS[name](image_shape, alpha_bar, **values)
