"""Denoisers without learning: the exact one, the exact one smoothed by a kernel, and one that compares patches.

All predict the noise, and the others are the exact one in a limit: for the width 0, and for patches of the whole image
at the same place. Their weights are the memories themselves: [K, P], for images of P pixels and channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from attractors.denoisers.diffusion import noise_level


class ClosedForm(nn.Module):
    """A noise prediction (x_t - sqrt(alpha_bar_t) E[x_0 | x_t]) / sigma_t from an estimate of x_0 in closed form."""

    alpha_bar: torch.Tensor
    memories: torch.Tensor

    def __init__(self, image_shape: tuple[int, ...], alpha_bar: torch.Tensor, memories: torch.Tensor) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.register_buffer("alpha_bar", alpha_bar.double(), persistent=False)
        self.register_buffer("memories", memories.float().reshape(-1, math.prod(image_shape)).clone())

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Map x: [B, C, H, W] and t: [B], 0-based, to the expected noise, shaped like x."""
        scale, variance = self.alpha_bar[t, None].sqrt().to(x), (1 - self.alpha_bar[t, None]).to(x)  # [B, 1]
        x_0 = self.estimate(x, t, scale, variance, self.memories.to(x.dtype))
        return ((x.flatten(1) - scale * x_0.flatten(1)) / variance.sqrt()).reshape(x.shape)

    def estimate(
        self, x: torch.Tensor, t: torch.Tensor, scale: torch.Tensor, variance: torch.Tensor, memories: torch.Tensor
    ) -> torch.Tensor:
        """Return E[x_0 | x_t]: [B, ...]. scale, variance: [B, 1], sqrt(alpha_bar_t) and sigma_t^2; memories: [K, P]."""
        raise NotImplementedError


def logits(flat: torch.Tensor, scale: torch.Tensor, memories: torch.Tensor) -> torch.Tensor:
    """Return -|x - scale xi|^2 / 2 for flat images: [B, P] and memories: [K, P], up to |x|^2 / 2: [B, K].

    |x|^2 is the same for every memory and cancels in a softmax.
    """
    return scale * (flat @ memories.T) - scale**2 * memories.square().sum(1) / 2


class ExactNoise(ClosedForm):
    """The optimal noise prediction for a finite training set in closed form: Eqs. 3-5 in variance-preserving form.

    E[noise | x_t] = (x_t - sqrt(alpha_bar) sum_mu w_mu xi_mu) / sigma,
    w = softmax(-|x_t - sqrt(alpha_bar) xi_mu|^2 / (2 sigma^2)).
    """

    def estimate(
        self, x: torch.Tensor, t: torch.Tensor, scale: torch.Tensor, variance: torch.Tensor, memories: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean of the memories under w: [B, P]."""
        return torch.softmax(logits(x.flatten(1), scale, memories) / variance, 1) @ memories


class SmoothedNoise(ClosedForm):
    """The exact denoiser smoothed by a Gaussian kernel of width h, in units of pixels of x_0.

    kernel "input" averages the denoiser over displacements of its input, E[x_0 | x_t + sqrt(alpha_bar_t) h z], over
    `draws` fixed z ~ N(0, I) and their opposites (Scarvelis et al. 2023); its images are blends of memories. kernel
    "images" is the exact denoiser of a density estimate, in which each memory is the centre of a Gaussian of width h.
    """

    displacements: torch.Tensor

    def __init__(
        self, image_shape: tuple[int, ...], alpha_bar: torch.Tensor, memories: torch.Tensor, width: float = 0.0,
        kernel: str = "input", draws: int = 64,
    ) -> None:
        super().__init__(image_shape, alpha_bar, memories)
        self.width, self.kernel = width, kernel
        z = torch.randn(draws, math.prod(image_shape))
        self.register_buffer("displacements", torch.cat([z, -z]), persistent=False)

    def estimate(
        self, x: torch.Tensor, t: torch.Tensor, scale: torch.Tensor, variance: torch.Tensor, memories: torch.Tensor
    ) -> torch.Tensor:
        """Return the average of E[x_0 | x_t] over the kernel, or of the density estimate."""
        flat, h = x.flatten(1), self.width
        if self.kernel == "images":
            variance = variance + scale**2 * h**2
        energies = logits(flat, scale, memories)  # [B, K]
        if self.kernel == "images" or h == 0:
            mean = torch.softmax(energies / variance, 1) @ memories
            return mean + h**2 * scale / variance * (flat - scale * mean) if self.kernel == "images" else mean
        products = self.displacements.to(x.dtype) @ memories.T  # [M, K]
        weights = torch.zeros_like(energies)
        for part in products.split(max(1, 2**25 // energies.numel())):
            displaced = energies[:, None] + scale[:, None] ** 2 * h * part
            weights += torch.softmax(displaced / variance[:, None], 2).sum(1)
        return weights / len(products) @ memories


class LocalNoise(ClosedForm):
    """The denoiser that sees a box around each pixel: every pixel is the mean of memories' pixels with like boxes.

    x_0 at pixel p is the mean of xi_mu at p' under softmax(-|box of x_t at p - sqrt(alpha_bar_t) box of xi_mu at p'|^2
    / (2 sigma_t^2)). place "same" compares boxes at p' = p alone, so that a box that holds the whole image gives the
    exact denoiser. place "any" compares all p' (Kamb and Ganguli 2024); boxes continue beyond the image as zeros.
    The side of the box, in pixels and odd, is `side` or `per_noise` times the noise level sigma_t / sqrt(alpha_bar_t),
    whichever is larger.
    """

    def __init__(
        self, image_shape: tuple[int, ...], alpha_bar: torch.Tensor, memories: torch.Tensor, side: int = 3,
        per_noise: float = 0.0, place: str = "same",
    ) -> None:
        super().__init__(image_shape, alpha_bar, memories)
        self.side, self.per_noise, self.place = side, per_noise, place

    def sides(self, t: torch.Tensor) -> torch.Tensor:
        """Return the side of the box at each of t: [B] int64, at most one that holds the whole image from any pixel."""
        largest = 2 * max(self.image_shape[1:]) - 1
        wanted = (self.per_noise * noise_level(self.alpha_bar[t])).clamp(min=self.side).clamp(max=largest)
        return 2 * (wanted / 2).long() + 1

    def estimate(
        self, x: torch.Tensor, t: torch.Tensor, scale: torch.Tensor, variance: torch.Tensor, memories: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean of pixels with like boxes: [B, C, H, W]."""
        images, result = memories.reshape(-1, *self.image_shape), torch.empty_like(x)
        sides = self.sides(t)
        for side in sides.unique().tolist():
            rows = (sides == side).nonzero()[:, 0]
            group = max(1, 2**25 // (images.numel() * (1 if self.place == "same" else side**2)))
            for part in rows.split(group):
                of_part = x[part], scale[part], variance[part], images, side
                result[part] = same_place(*of_part) if self.place == "same" else any_place(*of_part)
        return result


def same_place(
    x: torch.Tensor, scale: torch.Tensor, variance: torch.Tensor, images: torch.Tensor, side: int
) -> torch.Tensor:
    """Return the local estimate of x_0 from boxes at the same place: [B, C, H, W]. images: [K, C, H, W]."""
    squares = (x[:, None] - scale[:, :, None, None, None] * images).square().sum(2)  # [B, K, H, W]
    for box in ((side, 1), (1, side)):
        padding = (box[0] // 2, box[1] // 2)
        squares = F.avg_pool2d(squares, box, 1, padding, divisor_override=1)
    weights = torch.softmax(squares / (-2 * variance[:, :, None, None]), 1)
    return torch.einsum("bkhw,kchw->bchw", weights, images)


def any_place(
    x: torch.Tensor, scale: torch.Tensor, variance: torch.Tensor, images: torch.Tensor, side: int
) -> torch.Tensor:
    """Return the local estimate of x_0 from boxes at any place: [B, C, H, W]. images: [K, C, H, W]."""
    boxes, patches = (F.unfold(part, side, padding=side // 2).mT for part in (x, images))  # [B or K, H W, D]
    patches, pixels = patches.flatten(0, 1), images.flatten(2).mT.flatten(0, 1)  # [K H W, D] and [K H W, C]
    energies = scale[:, :, None] * (boxes @ patches.T) - scale[:, :, None] ** 2 * patches.square().sum(1) / 2
    weights = torch.softmax(energies / variance[:, :, None], 2)  # [B, H W, K H W]
    return (weights @ pixels).mT.reshape(x.shape)
