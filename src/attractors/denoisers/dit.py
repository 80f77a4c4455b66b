"""The diffusion transformer (DiT) of Peebles and Xie 2023, without labels: tokens are patches, the time scales them."""

import torch
import torch.nn.functional as F
from torch import nn

from attractors.denoisers.diffusion import time_features


def positions(side: tuple[int, int], width: int) -> torch.Tensor:
    """Return sines and cosines of the row and of the column of each patch: [rows x columns, width]."""
    frequencies = 10_000.0 ** (-torch.arange(width // 4) / (width // 4))
    axes = [torch.arange(length)[:, None] * frequencies for length in side]
    rows, columns = (torch.cat([angle.sin(), angle.cos()], 1) for angle in axes)
    return torch.cat([rows.repeat_interleave(side[1], 0), columns.repeat(side[0], 1)], 1)


class Block(nn.Module):
    """Attention and an MLP, each shifted, scaled and gated by the time (adaLN-Zero). It starts as the identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Map h: [B, patches, width] and time: [B, width] to [B, patches, width]."""
        shift, scale, gate, shift_2, scale_2, gate_2 = self.modulation(F.silu(time))[:, None].chunk(6, -1)
        q, k, v = self.query_key_value(modulated(h, shift, scale)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        attention = (torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5).softmax(-1)
        h = h + gate * self.mixed(torch.einsum("bhqk,bkhd->bqhd", attention, v).flatten(2))
        return h + gate_2 * self.mlp(modulated(h, shift_2, scale_2))


def modulated(h: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return the layer-normalised h, scaled and shifted: [B, patches, width]."""
    return F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift


class DiT(nn.Module):
    """The transformer on the patches of images of shape (C, H, W), whose sides are multiples of the patch."""

    features: torch.Tensor
    places: torch.Tensor

    def __init__(
        self, image_shape: tuple[int, ...], alpha_bar: torch.Tensor, width: int = 128, blocks: int = 4, heads: int = 4,
        patch: int = 4,
    ) -> None:
        super().__init__()
        channels, height, columns = image_shape
        if height % patch or columns % patch:
            raise ValueError(f"images of {height} x {columns} pixels; their sides must be multiples of patch, {patch}")
        self.patch, pixels = patch, channels * patch**2
        features = time_features(alpha_bar)
        self.register_buffer("features", features, persistent=False)
        self.register_buffer("places", positions((height // patch, columns // patch), width), persistent=False)
        self.input = nn.Linear(pixels, width)
        self.time = nn.Sequential(nn.Linear(features.shape[1], width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.modulation, self.output = nn.Linear(width, 2 * width), nn.Linear(width, pixels)
        for layer in (self.modulation, self.output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Map x: [B, C, H, W] and t: [B], 0-based, to a prediction of the shape of x."""
        tokens = F.unfold(x, self.patch, stride=self.patch).mT  # [B, patches, C patch^2]
        time, h = self.time(self.features[t]), self.input(tokens) + self.places
        for block in self.blocks:
            h = block(h, time)
        shift, scale = self.modulation(F.silu(time))[:, None].chunk(2, -1)
        return F.fold(self.output(modulated(h, shift, scale)).mT, x.shape[2:], self.patch, stride=self.patch)
