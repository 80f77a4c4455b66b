"""LPIPS (B.2, C.1) as an embedding: the squared Euclidean distance of two embeddings is the LPIPS distance.

Zhang et al. compare unit-normalised feature maps f, layer by layer: sum_l mean_hw sum_c w_lc (f_lc - f'_lc)^2. With
every w >= 0 this equals |e - e'|^2, where e concatenates f_lc sqrt(w_lc / (H_l W_l)) over all layers.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attractors.arrays import read_arrays

# Convolutions of each backbone: (stride, padding, size of the max-pooling before it or 0, its output is compared).
BACKBONES = {
    "alex": [(4, 2, 0, True), (1, 2, 3, True), (1, 1, 3, True), (1, 1, 0, True), (1, 1, 0, True)],
    "vgg": [
        (1, 1, 0, False), (1, 1, 0, True),
        (1, 1, 2, False), (1, 1, 0, True),
        (1, 1, 2, False), (1, 1, 0, False), (1, 1, 0, True),
        (1, 1, 2, False), (1, 1, 0, False), (1, 1, 0, True),
        (1, 1, 2, False), (1, 1, 0, False), (1, 1, 0, True),
    ],
}
SMALLEST = 32  # images below this are enlarged to it: AlexNet fails under 31 pixels
BATCH = 128  # images embedded at a time: fixed, so that an image's embedding never depends on its neighbours
CENTRE, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's, for images in [-1, 1]


class Embedding(nn.Module):
    """The network that maps images [n, C, H, W] in [-1, 1] to their LPIPS embeddings [n, D] float32.

    Grey images are repeated to three channels, and images with a side below 32 are enlarged until the shorter side is
    32 (nearest-exact), as the authors do. backbone is `alex` (B.2, for neighbours) or `vgg` (C.1, for basins). weights
    have the names that `stages/lpips_weights.py` gives them. Raises ValueError for a negative head weight, with which
    LPIPS is not a squared distance.
    """

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, backbone: str, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.backbone, self.layers = backbone, BACKBONES[backbone]
        self.weights = nn.ParameterList(weights[f"convolution_{i}.weight"] for i in range(len(self.layers)))
        self.biases = nn.ParameterList(weights[f"convolution_{i}.bias"] for i in range(len(self.layers)))
        self.heads = nn.ParameterList(weights[f"head_{i}"] for i in range(5))
        if any((head < 0).any() for head in self.heads):
            raise ValueError(f"LPIPS {backbone}: a negative head weight is no squared distance")
        self.register_buffer("centre", torch.tensor(CENTRE)[:, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images: [n, C, H, W] in [-1, 1] to embeddings: [n, D]. Differentiable."""
        x = images.expand(-1, 3, -1, -1)
        if min(x.shape[2:]) < SMALLEST:
            larger = [SMALLEST * side // min(x.shape[2:]) for side in x.shape[2:]]
            x = F.interpolate(x, larger, mode="nearest-exact")
        x, heads, parts = (x - self.centre) / self.scale, iter(self.heads), []
        for (stride, padding, pool, compared), weight, bias in zip(self.layers, self.weights, self.biases, strict=True):
            if pool:
                x = F.max_pool2d(x, pool, 2)
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            if compared:
                unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
                weighted = unit * (next(heads)[:, None, None] / (x.shape[2] * x.shape[3])).sqrt()
                parts.append(weighted.flatten(1))
        return torch.cat(parts, 1)

    @torch.inference_mode()
    def batches(self, images: torch.Tensor | np.ndarray) -> Iterator[torch.Tensor]:
        """Yield the embeddings of images: [n, C, H, W] in [-1, 1], a tensor or an array, BATCH rows at a time."""
        for start in range(0, len(images), BATCH):
            part = torch.as_tensor(images[start : start + BATCH]).to(self.centre.device)
            padded = F.pad(part, (0, 0) * 3 + (0, BATCH - len(part)))
            yield self(padded)[: len(part)]

    def dimensions(self, shape: tuple[int, ...]) -> int:
        """Return D, the length of the embedding of an image of shape (C, H, W)."""
        with torch.inference_mode():
            return self(torch.zeros(1, *shape, device=self.centre.device)).shape[1]

    def distance(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the LPIPS distances of pairs of images: [n], from x, y: [n, C, H, W] in [-1, 1]. Differentiable."""
        return (self(x) - self(y)).square().sum(1)


def read_embedding(path: str | Path, device: torch.device | str = "cpu", backbone: str | None = None) -> Embedding:
    """Return the Embedding stored in a file that `stages/lpips_weights.py` wrote, on the device.

    Raises ValueError for another file, for weights whose hash is not the one in the header, and for another backbone.
    """
    if not Path(path).exists():
        name = Path(path).stem if Path(path).stem in BACKBONES else "alex"
        raise ValueError(f"{path}: no such file; attractors lpips_weights {name} --out {path} writes it")
    weights, record = read_arrays(path)
    if record.get("backbone") not in BACKBONES:
        raise ValueError(f"{path}: not LPIPS weights; python src/main.py lpips_weights alex --out {path} writes them")
    if backbone not in (None, record["backbone"]):
        other = record["backbone"]
        raise ValueError(f"{path}: weights of {other}; --distance lpips_{backbone} needs those of {backbone}")
    if (sha256 := weights_hash(weights)) != record.get("weights_sha256"):
        raise ValueError(f"{path}: weights of sha256 {sha256}; its header says {record.get('weights_sha256')}")
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    try:
        return Embedding(record["backbone"], tensors).to(device)
    except KeyError as error:
        raise ValueError(f"{path}: no weights {error}") from None


def weights_hash(weights: Mapping[str, np.ndarray]) -> str:
    """Return the sha256 of all weights, in the order of their names, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(weights[name].tobytes())
    return digest.hexdigest()
