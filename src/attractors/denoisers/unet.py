"""The U-Net of DDPM (B.4, Table 3): PixelCNN++ shape, group normalisation, attention at 16 x 16 and in the middle."""

import math
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

GROUPS = 32


def time_embedding(t, width):
    """Sines, then cosines, of t at frequencies 1 ... 1/10000: [B, width]. t: [B], 0-based."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=t.device) * (-math.log(10_000) / (half - 1)))
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def initialised(layer, scale=1.0):
    """DDPM initialisation: weights uniform with variance scale / fan_avg, biases zero. Exact zeros for scale 0."""
    nn.init.xavier_uniform_(layer.weight, gain=scale**0.5)
    nn.init.zeros_(layer.bias)
    return layer


def convolution(inputs, outputs, size=3, stride=1, scale=1.0):
    return initialised(nn.Conv2d(inputs, outputs, size, stride, padding=size // 2 if stride == 1 else 0), scale)


def norm(channels):
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """x + conv(dropout(swish(norm(conv(swish(norm(x))) + time)))), the last convolution starting at zero."""

    def __init__(self, inputs, outputs, time_width, dropout):
        super().__init__()
        self.norm_1, self.convolution_1 = norm(inputs), convolution(inputs, outputs)
        self.time = initialised(nn.Linear(time_width, outputs))
        self.norm_2, self.convolution_2 = norm(outputs), convolution(outputs, outputs, scale=0)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = convolution(inputs, outputs, size=1) if inputs != outputs else nn.Identity()

    def forward(self, x, time):
        h = self.convolution_1(F.silu(self.norm_1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.shortcut(x) + self.convolution_2(self.dropout(F.silu(self.norm_2(h))))


class Attention(nn.Module):
    """x + output(attention(query, key, value of norm(x))) with one head over all positions, starting at zero."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.query_key_value = norm(channels), nn.Linear(channels, 3 * channels)
        for part in self.query_key_value.weight.data.chunk(3):
            nn.init.xavier_uniform_(part)
        nn.init.zeros_(self.query_key_value.bias)
        self.output = initialised(nn.Linear(channels, channels), scale=0)

    def forward(self, x):
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [B, H W, C]
        query, key, value = self.query_key_value(tokens)[:, None].chunk(3, -1)
        # The fused kernels have no forward-mode derivative, which Algs. 2 and 3 take.
        with sdpa_kernel(SDPBackend.MATH) if forward_ad._current_level >= 0 else nullcontext():
            h = self.output(F.scaled_dot_product_attention(query, key, value)[:, 0])
        return x + h.transpose(1, 2).reshape(x.shape)


class Downsample(nn.Module):
    """Half the resolution: a strided convolution, padded on the right and at the bottom as in TensorFlow."""

    def __init__(self, channels):
        super().__init__()
        self.convolution = convolution(channels, channels, stride=2)

    def forward(self, x, time):
        return self.convolution(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the resolution: nearest neighbours, then a convolution."""

    def __init__(self, channels):
        super().__init__()
        self.convolution = convolution(channels, channels)

    def forward(self, x):
        return self.convolution(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Block(nn.Module):
    """A residual block, followed by attention and by up-sampling where asked for."""

    def __init__(self, inputs, outputs, time_width, dropout, attend=False, upsample=False):
        super().__init__()
        self.residual = ResidualBlock(inputs, outputs, time_width, dropout)
        self.attention = Attention(outputs) if attend else nn.Identity()
        self.upsample = Upsample(outputs) if upsample else nn.Identity()

    def forward(self, x, time):
        return self.upsample(self.attention(self.residual(x, time)))


class UNet(nn.Module):
    """The score network of B.4: maps x: [B, C, H, W] and t: [B], 0-based, to a prediction shaped like x.

    image_shape: (C, H, W), square, H divisible by 2^(levels - 1). alpha_bar is not used: t itself is embedded.
    width, multipliers: channels of the levels (Table 3). blocks: residual blocks of a level on the way down;
    one more on the way up. attention: resolutions that attend; the middle always does.
    Raises ValueError for a shape that cannot be halved and for channels that 32 groups cannot share.
    """

    def __init__(
        self, image_shape, alpha_bar, width=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(16,), dropout=0.0
    ):
        super().__init__()
        channels, size, _ = image_shape
        if image_shape[1] != image_shape[2] or size % 2 ** (len(multipliers) - 1):
            raise ValueError(
                f"network unet: images of {image_shape[1]} x {image_shape[2]} pixels with {len(multipliers)} "
                f"multipliers; they must be square and halve {len(multipliers) - 1} times"
            )
        if any(int(width * m) != width * m or width * m % GROUPS for m in multipliers):
            raise ValueError(f"network unet: width {width} x {list(multipliers)}; each must be a multiple of {GROUPS}")
        widths, time_width = [int(width * m) for m in multipliers], 4 * width
        sizes = [size // 2**level for level in range(len(widths))]
        self.width, levels = width, len(widths)
        self.settings = {
            "width": width, "multipliers": list(multipliers), "blocks": blocks, "attention": list(attention),
            "dropout": dropout,
        }  # fmt: skip
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
        self.middle = nn.ModuleList(
            [Block(now, now, time_width, dropout, attend=True), Block(now, now, time_width, dropout)]
        )
        self.up = nn.ModuleList()
        for level, (outputs, resolution) in reversed(list(enumerate(zip(widths, sizes, strict=True)))):
            for block in range(blocks + 1):
                self.up.append(
                    Block(
                        now + skips.pop(), outputs, time_width, dropout,
                        attend=resolution in attention, upsample=block == blocks and level > 0,
                    )
                )  # fmt: skip
                now = outputs
        self.norm, self.output = norm(now), convolution(now, channels, scale=0)

    def forward(self, x, t):
        time = self.time(time_embedding(t, self.width))  # [B, 4 width]
        h = self.input(x)
        skips = [h]
        for block in self.down:
            skips.append(h := block(h, time))
        for block in self.middle:
            h = block(h, time)
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], 1), time)
        return self.output(F.silu(self.norm(h)))
