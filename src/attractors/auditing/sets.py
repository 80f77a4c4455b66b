"""Sets of images with the names of their files, and their features under any distance."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attractors.data.images import Images, divided, open_images
from attractors.data.kinds import kind_of_set
from attractors.data.pictures import ALL, Files, names_of, opened, read_picture
from attractors.distances.scratch import Scratch

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

BATCH = 16  # pictures that are decoded and encoded at a time
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet, for pixels in [0, 1]


class ImageSet:
    """A set of images, of which each has the name of its file.

    source: a path that `open_images` takes, or an array [n, C, H, W] in [-1, 1]. streamed: pictures in a folder or a
    zip are opened when they are read, so that a set may be larger than memory; their sizes may differ. values: a name
    of RANGES. count: only the first ones. Raises ValueError for fewer than ten images.
    """

    def __init__(
        self, source: Any, values: str | None = None, streamed: bool = False, count: int | None = None
    ) -> None:
        self.path = "" if isinstance(source, np.ndarray) else str(source)
        self.images: Images | None = None
        file, name = divided(source) if self.path else (None, None)
        kind = kind_of_set(file) if file else ""
        self.names = []
        if file and kind in ("folder", "zip"):
            with opened(file) as archive:
                self.names = names_of(Files(file, archive), name == ALL)
        self._file, self._zip = file, zipfile.ZipFile(file) if file and kind == "zip" else None
        if file is None:
            self.images = Images(source[:count], f"{len(source[:count]):,} images in memory", own=True)
        elif not streamed or not self.names:
            self.images = open_images(source, count, values)
        self.names = self.names[:count]
        number = len(self.names) if self.images is None else len(self.images.array)
        if number < 10:
            raise ValueError(f"{self.path or 'array'}: {number} images; an audit needs ten or more")
        if count is not None and number < count:
            raise ValueError(f"{self.path or 'array'}: holds {number} images; {count} were asked for")
        self.said = self.images.said if self.images else f"{number:,} pictures, {self.names[0]} to {self.names[-1]}"
        self.names = self.names or [Path(self.path).name] * number

    def __len__(self) -> int:
        return len(self.names)

    def picture(self, number: int) -> PILImage:
        """Return one image as a PIL image of 8 bits."""
        from PIL import Image

        if self.images is None:
            name = self.names[number]
            source = io.BytesIO(self._zip.read(name)) if self._zip else Path(self._file or "") / name
            return read_picture(source, f"{self.path}/{name}")
        image = np.round(np.clip(self.images.array[number].transpose(1, 2, 0) / 2 + 0.5, 0, 1) * 255).astype(np.uint8)
        return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)

    def batches(self, side: int | None) -> Iterator[np.ndarray]:
        """Yield the images in colour, BATCH at a time: [b, 3, side, side] float32 in [0, 1].

        The shorter side becomes `side` pixels, and the centre is cut out. Without `side` pictures stay as they are.
        """
        from PIL import Image

        for start in range(0, len(self), BATCH):
            parts = []
            for number in range(start, min(start + BATCH, len(self))):
                picture = self.picture(number).convert("RGB")
                if side:
                    scale = side / min(picture.size)
                    width, height = (max(side, round(length * scale)) for length in picture.size)
                    left, top = (width - side) // 2, (height - side) // 2
                    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
                    picture = picture.crop((left, top, left + side, top + side))
                parts.append(np.asarray(picture, np.float32).transpose(2, 0, 1) / 255)
                if parts[-1].shape != parts[0].shape:
                    raise ValueError(f"{self.path}/{self.names[number]}: another size than before; --resize makes one")
            yield np.stack(parts)


def read_features(path: str | Path, count: int) -> np.ndarray:
    """Return the features in an .npy file: [count, D] float32. Raises ValueError naming it for anything else."""
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: not an array of features ({error})") from None
    if features.ndim != 2 or features.dtype.kind != "f" or not np.isfinite(features).all():
        raise ValueError(f"{path}: {features.dtype} of shape {features.shape}; features are finite floats, [n, D]")
    if len(features) != count:
        raise ValueError(f"{path}: {len(features)} rows for {count} images; rows are in the order of the files")
    return np.ascontiguousarray(features, np.float32)


def for_cosine(features: np.ndarray) -> np.ndarray:
    """Return features whose squared Euclidean distance is the cosine distance 1 - cos of the given ones: [n, D]."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(norms, 1e-30) / np.sqrt(2)).astype(np.float32)


def load_encoder(path: str | Path, device: Any = "cpu") -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that a file of TorchScript (.pt) or torch.export (.pt2) computes, from arrays to arrays.

    Its code is run. Raises ValueError where the file is neither.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of TorchScript, as which most encoders are published
            network: Any = (
                torch.export.load(path).module().to(device) if Path(path).suffix == ".pt2"
                else torch.jit.load(path, map_location=device).eval()
            )
    except Exception as error:  # of a dozen kinds, by what the file is
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: neither TorchScript (.pt) nor torch.export (.pt2): {reason}") from None

    @torch.no_grad()
    def features(images: np.ndarray) -> np.ndarray:
        output = network(torch.from_numpy(images).to(device))
        if not isinstance(output, torch.Tensor) or output.ndim != 2:
            raise ValueError(f"{path}: returns {getattr(output, 'shape', type(output))}; features are a tensor [n, D]")
        return output.float().cpu().numpy()

    return features


def encoded(
    images: ImageSet, encode: Callable[[np.ndarray], np.ndarray], side: int | None, normalised: bool,
    progress: Callable[[Iterator, int, str], Iterator] = lambda blocks, count, label: blocks,
) -> np.ndarray:
    """Return the features that an encoder gives of a set: [n, D].

    side: as in `ImageSet.batches`. normalised: pixels are centred and scaled by ImageNet's mean and deviation.
    """
    parts = []
    for block in progress(images.batches(side), -(-len(images) // BATCH), f"encode {images.path}"):
        scaled = (block - MEAN[:, None, None]) / DEVIATION[:, None, None] if normalised else block
        parts.append(encode(scaled.astype(np.float32)))
    return np.concatenate(parts)


def perceptual(array: np.ndarray, embedding: Any, folder: str | Path) -> Scratch:
    """Return the LPIPS embeddings of images [n, C, H, W] in [-1, 1], as a table on disk in `folder`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    blocks = (block.cpu().numpy() for block in embedding.batches(array))
    return Scratch(blocks, (len(array), embedding.dimensions(array.shape[1:])), folder)
