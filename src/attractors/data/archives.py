"""Arrays in the files that people bring: .npy and .npz of NumPy, and tensors of torch.save. No code in them is run."""

import errno
import gzip
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from attractors.data.pictures import check_unpacked, members
from attractors.data.unpickling import read_torch

LARGEST_IDX = 2**26  # bytes, unpacked

def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, int, str]:
    """Return (shape, dtype, the bytes that the whole file must have, order), from the header of an open .npy file."""
    major, _ = np.lib.format.read_magic(file)
    if major > 2:
        raise ValueError("its array has named fields")
    shape, columns, dtype = (np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)[major - 1](file)
    return shape, dtype, file.tell() + math.prod(shape) * dtype.itemsize, "F" if columns else "C"


def _array(file: IO[bytes], size: int, path: Path | None = None, count: int | None = None) -> np.ndarray:
    """Return the array in an open .npy file of `size` bytes, or its first `count` rows.

    That of the file `path` is mapped, and rows are read where `count` asks for some. Raises ValueError where the header
    announces another size.
    """
    shape, dtype, announced, order = _header(file)
    if not dtype.hasobject and announced != size:  # objects are a pickle, which is refused below
        raise ValueError(f"{size} bytes, but its header announces {announced}")
    if path and not dtype.hasobject and 0 not in shape:
        if count and order == "C" and len(shape) > 2 and count + 4 < shape[0]:  # 4: a few images stay apart from one
            rows = (count + 4, *shape[1:])
            return np.frombuffer(file.read(math.prod(rows) * dtype.itemsize), dtype).reshape(rows)
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if order == "F" else "C")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


class UndecidedError(ValueError):
    """Raised for an archive of arrays of which none, or more than one, can be the images."""


class NoImagesError(UndecidedError):
    """Raised for an archive of which no array can be images, such as the weights of a network."""


def choose(kinds: Mapping[str, tuple[tuple[int, ...], object]], name: str | None, path: Path) -> str:
    """Return the name of the one array of images among several. kinds: (shape, type) by name.

    Images are arrays of numbers with three or four axes: labels and options are none.
    Raises UndecidedError, listing all, where `name` is none of them, or is None and not exactly one can be images.
    """
    parts = [(key, " x ".join(map(str, shape)) or "one", kind) for key, (shape, kind) in kinds.items()]
    listed = "; ".join("{}: {} {}".format(*part) for part in parts)
    if name is not None:
        if name not in kinds:
            raise UndecidedError(f"no array {name} ({listed[:500]})")
        return name
    fit = [key for key, (shape, kind) in kinds.items() if len(shape) in (3, 4) and re.match("u?int|b?float", str(kind))]
    if len(fit) > 1:
        raise UndecidedError(f"{len(fit)} arrays may be the images; {path}:{fit[0]} takes one ({listed[:500]})")
    if not fit and len(kinds) > 1:
        raise NoImagesError(f"none of its arrays can be images ({listed[:500]})")
    return (fit or list(kinds))[0]


def _npz(file: IO[bytes], path: Path, name: str | None) -> tuple[np.ndarray, str]:
    """Return (the array of images, its name) of an open .npz file.

    name chooses one of several arrays. Raises ValueError where there is none, or no way to choose.
    """
    with zipfile.ZipFile(file) as archive:
        found = {member.filename: member for member in members(archive)}
        arrays = {key.removesuffix(".npy"): found[key] for key in found if key.endswith(".npy")} or found
        if not arrays:
            raise ValueError("it is empty")
        chosen, kinds = next(iter(arrays)), {}
        if len(arrays) > 1 or name:
            for key, member in arrays.items():
                with archive.open(member) as opened:
                    kinds[key] = _header(opened)[:2]
            chosen = choose(kinds, name, path)
        check_unpacked(arrays[chosen], path)
        with archive.open(arrays[chosen]) as member:
            return _array(member, arrays[chosen].file_size), chosen


def read_numpy(path: Path, name: str | None = None, count: int | None = None) -> tuple[np.ndarray, str]:
    """Return (the array of images, its name or "") in a .npy or .npz file; of .npy at least the first `count` images.

    name: which of several arrays; without one exactly one must be an array that can be images. Raises ValueError, and
    before a lie about sizes costs memory.
    """
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"PK":
                return _npz(file, path, name)
            file.seek(0)
            return _array(file, path.stat().st_size, path, count), ""
    except UndecidedError as error:
        raise type(error)(f"{path}: {error}") from None
    except Exception as error:  # of a dozen kinds, by the library that finds out
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM:
            raise ValueError(f"{path}: too little memory to read it ({reason})") from None
        raise ValueError(f"{path}: not an .npy or .npz file of plain numbers ({reason})") from None


def tensors(content: object, name: str = "") -> dict:
    """The tensors in what torch.save wrote, by the keys and numbers under which they lie: {"data.images": ...}."""
    import torch

    if isinstance(content, torch.Tensor):
        return {name: content}
    pairs = content.items() if isinstance(content, dict) else ()
    pairs = enumerate(content) if isinstance(content, list | tuple) else pairs
    parts = [tensors(value, f"{name}.{key}".lstrip(".")) for key, value in pairs]
    return {key: value for part in parts for key, value in part.items()}


def joined(content: object) -> object:
    """Return a list of tensors, which are images or batches of them, as one tensor [n, ...]; anything else as it is."""
    import torch

    if not isinstance(content, list | tuple) or not all(isinstance(part, torch.Tensor) for part in content):
        return content
    shapes = {part.shape for part in content}
    if len(content) > 2 and len(shapes) == 1 and content[0].ndim in (2, 3):
        return torch.stack(list(content))
    batches = len({shape[1:] for shape in shapes}) == 1 and content[0].ndim == 4
    return torch.cat(list(content)) if batches else content


def are_weights(names: Iterable[str]) -> bool:
    """Return whether tensors of these names are the weights of a network."""
    return any(re.search(r"(^|[._])(weight|bias|running_mean)$|\.(W|b)$", str(name)) for name in names)


def read_tensors(path: Path, name: str | None = None) -> tuple[np.ndarray, str]:
    """(the tensor of images as an array, its name or "") in a file of torch.save: one, or several in lists or mappings.

    A list of images, or of batches of them, is one set. Nothing in the file is run. Raises ValueError naming it.
    """
    parts = tensors(joined(read_torch(path)))
    if not parts:
        raise NoImagesError(f"{path}: holds no tensors")
    if name is None and are_weights(parts):
        raise NoImagesError(f"{path}: weights of a network, and no images; import_checkpoint reads models")
    kinds = {key: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for key, tensor in parts.items()}
    try:
        chosen = choose(kinds, name, path)
        tensor = parts[chosen].detach()
        return (tensor.float() if kinds[chosen][1] == "bfloat16" else tensor).contiguous().numpy(), chosen
    except UndecidedError as error:
        raise type(error)(f"{path}: {error}") from None
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: a tensor of {kinds[chosen][1]} that is no plain array ({error})") from None


def read_idx(path: Path) -> tuple[np.ndarray, str]:
    """Return (the array in an idx file, as MNIST has it, packed or not, its name in words). Raises ValueError."""
    content = unpacked(path.read_bytes(), path)
    kind, axes = content[2:4].ljust(2, b"\0")
    shape = struct.unpack_from(f">{axes}I", content.ljust(4 + 4 * axes, b"\0"), 4)
    if content[:2] != b"\0\0" or kind != 8 or not 0 < math.prod(shape) == len(content) - 4 - 4 * axes:
        raise ValueError(f"{path}: not an idx file of bytes, or a truncated one")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape), "idx"


def unpacked(content: bytes, name: object) -> bytes:
    """Return bytes as they are, or unpacked where gzip packed them. Raises ValueError naming a damaged file."""
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return file.read(LARGEST_IDX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name}: {error}") from None
