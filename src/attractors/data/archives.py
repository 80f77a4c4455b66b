"""Arrays in the files that people bring: .npy, .npz, tensors of torch.save, idx, CIFAR's batches. No code is run."""

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

from attractors.arrays import read_arrays
from attractors.data.kinds import SINGLE, kind_of_set, suffix_of
from attractors.data.pictures import Files, check_one_set, left_aside, members, natural, opened, read_pictures
from attractors.data.unpickling import numpy_pickle, read_torch

LARGEST_IDX = 2**26  # bytes, unpacked
OVERSHOOT = 1e-3  # of a range's width: what rounding, or an interpolation, may add
# The training images of MNIST and CIFAR as they are published; the others in their folders are labels and test images.
PUBLISHED = re.compile(r"(^|/)(data_batch_\d|train-images[-.]idx3-ubyte(\.gz)?)$")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, int, str]:
    """Return (shape, dtype, the bytes that the whole file must have, order), from the header of an open .npy file."""
    major, _ = np.lib.format.read_magic(file)
    if major > 2:
        raise ValueError("its array has named fields")
    shape, columns, dtype = (np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)[major - 1](file)
    return shape, dtype, file.tell() + math.prod(shape) * dtype.itemsize, "F" if columns else "C"


def _array(file: IO[bytes], size: int, count: int | None = None) -> np.ndarray:
    """Return the array in an open .npy file of `size` bytes; where that is enough, little more than `count` rows.

    Raises ValueError where the header announces another size.
    """
    shape, dtype, announced, order = _header(file)
    if not dtype.hasobject and announced != size:  # objects are a pickle, which is refused below
        raise ValueError(f"{size} bytes, but its header announces {announced}")
    if count and not dtype.hasobject and order == "C" and len(shape) > 2 and 0 not in shape:
        rows = (min(count + 4, shape[0]), *shape[1:])  # 4: a few images stay apart from one
        return np.frombuffer(file.read(math.prod(rows) * dtype.itemsize), dtype).reshape(rows)
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
        found = {member.filename: member for member in members(archive, path)}
        arrays = {key.removesuffix(".npy"): found[key] for key in found if key.endswith(".npy")} or found
        if not arrays:
            raise ValueError("it is empty")
        chosen, kinds = next(iter(arrays)), {}
        if len(arrays) > 1 or name:
            for key, member in arrays.items():
                with archive.open(member) as opened:
                    kinds[key] = _header(opened)[:2]
            chosen = choose(kinds, name, path)
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
            return _array(file, path.stat().st_size, count), ""
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
    """Return whether tensors of these names are the weights of a network, or an optimizer's averages of them."""
    known = re.compile(r"(^|[._])(weight|bias|running_mean|exp_avg|exp_avg_sq|momentum_buffer)$|\.(W|b)$")
    return any(known.search(str(name)) for name in names)


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


def idx_array(content: bytes, name: object) -> np.ndarray:
    """Return the array of bytes in an idx file, as MNIST has it, packed or not. Raises ValueError naming it."""
    content = unpacked(content, name)
    kind, axes = content[2:4].ljust(2, b"\0")
    shape = struct.unpack_from(f">{axes}I", content.ljust(4 + 4 * axes, b"\0"), 4)
    if content[:2] != b"\0\0" or kind != 8 or not 0 < math.prod(shape) == len(content) - 4 - 4 * axes:
        size = " x ".join(map(str, shape)) or "nothing"
        raise ValueError(f"{name}: {len(content)} bytes, no idx file of bytes or cut; its header announces {size}")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def cifar_array(content: bytes, name: object) -> np.ndarray:
    """Return the images in a batch of CIFAR's pickles: [n, 3, 32, 32] uint8. Raises ValueError naming it."""
    batch = numpy_pickle(content, str(name), "latin1")
    try:
        side = math.isqrt(batch["data"].shape[1] // 3)
        return batch["data"].reshape(len(batch["data"]), 3, side, side)
    except (LookupError, TypeError, AttributeError, ValueError):
        raise NoImagesError(f"{name}: a pickle of plain numpy arrays, but no batch of CIFAR") from None


def unpacked(content: bytes, name: object) -> bytes:
    """Return bytes as they are, or unpacked where gzip packed them. Raises ValueError naming a damaged file."""
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return file.read(LARGEST_IDX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name}: {error}") from None


def as_images(array: np.ndarray, path: object, maximum: int | None = None) -> np.ndarray:
    """Images of this project's own files as float32 in [-1, 1]: [n, C, H, W].

    array: [n, C, H, W] uint8 in 0..`maximum`, by default 255, or floats in [-1, 1]. Raises ValueError naming path.
    """
    if array.ndim != 4 or 0 in array.shape:
        raise ValueError(f"{path}: images of shape {array.shape}; expected [n, C, H, W]")
    if array.dtype == np.uint8:
        if maximum is None:
            return array.astype(np.float32) / np.float32(127.5) - 1
        if type(maximum) is not int or not max(1, array.max()) <= maximum:
            raise ValueError(f"{path}: values up to {array.max()}; its record says that {maximum!r} is the largest")
        return array.astype(np.float32) * np.float32(2 / maximum) - 1
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{path}: images of type {array.dtype}; expected uint8 (0 to 255) or floats in [-1, 1]")
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: images contain NaN or infinity")
    if np.abs(array).max() > 1 + OVERSHOOT:
        raise ValueError(f"{path}: values from {array.min():.3g} to {array.max():.3g}; floats must lie in [-1, 1]")
    return array.astype(np.float32)


def own_array(path: Path, count: int | None) -> tuple[np.ndarray, str]:
    """Return (the first `count` images of a file that this project wrote, in [-1, 1], what it holds in words)."""
    try:
        arrays, record = read_arrays(path, "images")
    except ValueError as error:
        missing = any(words in str(error) for words in ("another program", "but not images"))
        raise (NoImagesError if missing else ValueError)(str(error)) from None
    array = arrays["images"][:count] if arrays["images"].ndim else arrays["images"]
    images = as_images(array, path, record.get("maximum"))
    shape = " x ".join(map(str, [*array.shape[2:], array.shape[1]]))
    return images, f"{len(array):,} images, {shape}, {array.dtype}, as this project stores them"


def read_array(path: Path, kind: str, name: str | None = None, count: int | None = None) -> tuple[np.ndarray, str]:
    """Return (the array in a file of a kind of `kind_of_set`, how it was read); at least the first `count` images."""
    if kind == "own":
        return own_array(path, count)
    if kind == "zip":
        with opened(path) as archive:
            return read_pictures(Files(path, archive), count, False)
    if kind in ("idx", "pickle"):
        return (idx_array if kind == "idx" else cifar_array)(path.read_bytes(), path), kind
    return read_tensors(path, name) if kind == "torch" else read_numpy(path, name, count)


def arrays_in(files: Files) -> dict[str, np.ndarray]:
    """Return {name: array} of the files of a folder that hold images; of a published dataset, those to train with.

    Raises ValueError where they lie beside pictures, and NoImagesError where such files hold none, as weights do.
    """
    path, arrays, without = files.path, {}, []
    names = natural(name for name, kind in files.kinds.items() if kind in (*SINGLE, "zip") or PUBLISHED.search(name))
    names = [name for name in names if PUBLISHED.search(name)] or names
    for name in names:
        if name.removesuffix(".gz") in arrays:
            continue
        try:
            arrays[name], _ = read_array(path / name, kind_of_set(path / name))
            if arrays[name].ndim < 2:
                raise NoImagesError(f"{path / name}: of shape {arrays.pop(name).shape}, which no images have")
        except NoImagesError as error:
            without.append(error)
    if files.pictures and arrays:
        listed = ", ".join([*arrays][:3])
        raise ValueError(f"{path}: holds {len(files.pictures)} pictures and {listed}; name one of them")
    if without and not files.pictures and not arrays:
        raise NoImagesError(str(without[0]) + f" ({len(without)} such files in {path})" * (len(without) > 1))
    return arrays


def one_set(files: Files, arrays: dict[str, np.ndarray], together: bool) -> tuple[np.ndarray, str]:
    """Return (the arrays of a folder's files as one, their names in words): joined in this order, or one image each.

    Those are one image each that have the same two axes, or the same three of which one end is the channels.
    together: take what looks like several sets as one. Raises ValueError where they do not belong together.
    """
    first, *_, last = *arrays, *arrays
    if len({suffix_of(name) for name in arrays}) > 1 or (len(arrays) > 1 and files.kinds[first] == "own"):
        listed = ", ".join([*arrays][:5])
        raise ValueError(f"{files.path}: {len(arrays)} archives of images; name one of them ({listed})")
    if not together:
        check_one_set(files.path, list(arrays), 1)
    words = [f"{len(arrays)} files, {first} to {last}" if len(arrays) > 1 else first, *left_aside(files, arrays)]
    shape, parts = arrays[first].shape, list(arrays.values())
    ends = [side in (1, 3, 4) for side in (shape[0], shape[-1])]
    each = len(parts) > 1 and (len(shape) == 2 or (len(shape) == 3 and ends[0] != ends[1]))
    kinds = {(part.shape[0 if each else 1 :], str(part.dtype)) for part in parts}
    if len(kinds) > 1:
        listed = " and of ".join(sorted(f"{kind} {shape}" for shape, kind in kinds))
        raise ValueError(f"{files.path}: archives of images of {listed}")
    return np.stack(parts) if each else np.concatenate(parts) if len(parts) > 1 else parts[0], ", ".join(words)
