"""The U-Net of DDPM (B.4, Table 3).

Its shape is that of PixelCNN++, with group normalisation, and with attention at 16 x 16 and in the middle.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)

GROUPS = 32


def time_embedding(t: torch.Tensor, width: int) -> torch.Tensor:
    """Return the sines, then the cosines, of t at frequencies from 1 down to 1/10000: [B, width]. t: [B], 0-based."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=t.device) * (-math.log(10_000) / (half - 1)))
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def initialised(layer: Layer, scale: float = 1.0) -> Layer:
    """Initialise a linear or convolutional layer as DDPM does, and return it.

    Weights are uniform with variance scale / fan_avg, and biases are zero. With scale 0 the weights are exactly zero.
    """
    nn.init.xavier_uniform_(layer.weight, gain=scale**0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1, scale: float = 1.0) -> nn.Conv2d:
    """Return an initialised convolution with a square kernel of `size` pixels.

    With stride 1 the padding keeps the resolution; with a larger stride there is none.
    """
    return initialised(nn.Conv2d(inputs, outputs, size, stride, padding=size // 2 if stride == 1 else 0), scale)


def norm(channels: int) -> nn.GroupNorm:
    """Return the group normalisation that every block uses. `channels` must be a multiple of GROUPS."""
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """The residual block x + conv(dropout(swish(norm(conv(swish(norm(x))) + time)))).

    The last convolution starts at zero, so that an untrained block passes its input through.
    """

    def __init__(self, inputs: int, outputs: int, time_width: int, dropout: float) -> None:
        super().__init__()
        self.norm_1, self.convolution_1 = norm(inputs), convolution(inputs, outputs)
        self.time = initialised(nn.Linear(time_width, outputs))
        self.norm_2, self.convolution_2 = norm(outputs), convolution(outputs, outputs, scale=0)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = convolution(inputs, outputs, size=1) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Map x: [B, inputs, H, W] and time: [B, time_width] to [B, outputs, H, W]."""
        h = self.convolution_1(F.silu(self.norm_1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.shortcut(x) + self.convolution_2(self.dropout(F.silu(self.norm_2(h))))


class Attention(nn.Module):
    """Self-attention with one head over all positions: x + output(attention(query, key, value of norm(x))).

    The output layer starts at zero, so that an untrained layer passes its input through.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.query_key_value = norm(channels), nn.Linear(channels, 3 * channels)
        for part in self.query_key_value.weight.data.chunk(3):
            nn.init.xavier_uniform_(part)
        nn.init.zeros_(self.query_key_value.bias)
        self.output = initialised(nn.Linear(channels, channels), scale=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x: [B, C, H, W] to a tensor of the same shape."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [B, H W, C]
        query, key, value = self.query_key_value(tokens)[:, None].chunk(3, -1)
        # The fused kernels have no forward-mode derivative, which Algs. 2 and 3 take.
        with sdpa_kernel(SDPBackend.MATH) if forward_ad._current_level >= 0 else nullcontext():
            h = self.output(F.scaled_dot_product_attention(query, key, value)[:, 0])
        return x + h.transpose(1, 2).reshape(x.shape)


class Downsample(nn.Module):
    """Half the resolution, by a strided convolution padded on the right and at the bottom as in TensorFlow."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = convolution(channels, channels, stride=2)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Map x: [B, C, H, W] to [B, C, H/2, W/2]. time is not used: all blocks on the way down are called alike."""
        return self.convolution(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the resolution, by nearest neighbours followed by a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = convolution(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x: [B, C, H, W] to [B, C, 2H, 2W]."""
        return self.convolution(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Block(nn.Module):
    """A residual block, followed by attention if `attend` and by up-sampling if `upsample`."""

    def __init__(
        self, inputs: int, outputs: int, time_width: int, dropout: float, attend: bool = False, upsample: bool = False
    ) -> None:
        super().__init__()
        self.residual = ResidualBlock(inputs, outputs, time_width, dropout)
        self.attention = Attention(outputs) if attend else nn.Identity()
        self.upsample = Upsample(outputs) if upsample else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Map x: [B, inputs, H, W] and time: [B, time_width] to [B, outputs, H, W], or [B, outputs, 2H, 2W]."""
        return self.upsample(self.attention(self.residual(x, time)))


class UNet(nn.Module):
    """The score network of B.4. It maps x: [B, C, H, W] and t: [B], 0-based, to a prediction of the shape of x.

    image_shape is (C, H, W), with H = W divisible by 2^(levels - 1). alpha_bar is not used, because t itself is
    embedded. width and multipliers give the channels of the levels (Table 3). blocks is the number of residual blocks
    of a level on the way down; there is one more on the way up. attention lists the resolutions that have attention;
    the middle always has it. With a patch above 1 the network sees squares of patch x patch pixels as channels of one
    pixel, and `attention` and the levels count these: [C patch^2, H/patch, W/patch] has patch^2 times fewer positions.
    Raises ValueError if the images cannot be halved that often or the channels are not multiples of GROUPS.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], alpha_bar: torch.Tensor, width: int = 128,
        multipliers: Sequence[float] = (1, 2, 2, 2), blocks: int = 2, attention: Sequence[int] = (16,),
        dropout: float = 0.0, patch: int = 1,
    ) -> None:
        super().__init__()
        if image_shape[1] != image_shape[2] or image_shape[1] % (patch * 2 ** (len(multipliers) - 1)):
            patches = f" in patches of {patch} x {patch}" * (patch > 1)
            raise ValueError(
                f"network unet: images of {image_shape[1]} x {image_shape[2]} pixels{patches} with {len(multipliers)} "
                f"multipliers; they must be square and halve {len(multipliers) - 1} times"
            )
        channels, size, self.patch = image_shape[0] * patch**2, image_shape[1] // patch, patch
        if any(int(width * m) != width * m or width * m % GROUPS for m in multipliers):
            raise ValueError(f"network unet: width {width} x {list(multipliers)}; each must be a multiple of {GROUPS}")
        widths, time_width = [int(width * m) for m in multipliers], 4 * width
        sizes = [size // 2**level for level in range(len(widths))]
        self.width, levels = width, len(widths)
        self.settings = {
            "width": width, "multipliers": list(multipliers), "blocks": blocks, "attention": list(attention),
            "dropout": dropout,
        }
        self.time = nn.Sequential(
            initialised(nn.Linear(width, time_width)), nn.SiLU(), initialised(nn.Linear(time_width, time_width))
        )
        self.input = convolution(channels, width)
        skips, now = [width], width
        self.down = nn.ModuleList()
        for level, (outputs, resolution) in enumerate(zip(widths, sizes, strict=True)):
            for _ in range(blocks):
                self.down.append(Block(now, outputs, time_width, dropout, attend=resolution in attention))
                skips.append(now := outputs)
            if level < levels - 1:
                self.down.append(Downsample(now))
                skips.append(now)
        self.middle = nn.ModuleList([Block(now, now, time_width, dropout, attend) for attend in (True, False)])
        self.up = nn.ModuleList()
        for level, (outputs, resolution) in reversed(list(enumerate(zip(widths, sizes, strict=True)))):
            for block in range(blocks + 1):
                attend, upsample = resolution in attention, block == blocks and level > 0
                self.up.append(Block(now + skips.pop(), outputs, time_width, dropout, attend, upsample))
                now = outputs
        self.norm, self.output = norm(now), convolution(now, channels, scale=0)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Map x: [B, C, H, W] and t: [B], 0-based, to the prediction: [B, C, H, W]."""
        time = self.time(time_embedding(t, self.width))  # [B, 4 width]
        h = self.input(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)
        skips = [h]
        for block in self.down:
            skips.append(h := block(h, time))
        for block in self.middle:
            h = block(h, time)
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], 1), time)
        h = self.output(F.silu(self.norm(h)))
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h
