"""Arrays and metrics on disk: safetensors with one JSON record in the header, JSON, CSV; written whole or not at all.

No pickle is ever read, and no torch is imported, so that the light stages start fast.
"""

import hashlib
import json
import math
import os
import warnings
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # others, such as EPS, run programs
UNPACKED, RATIO = 2**28, 200  # an archive may unpack to so many bytes, or to so many times its size


def temporary(path):
    """Where a file is written before it is renamed to `path`: fixed, so the next writer overwrites a killed one's."""
    return Path(path).with_name(f".{Path(path).name}.tmp{Path(path).suffix}")


@contextmanager
def atomic(path):
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not."""
    partial = temporary(path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is met in the middle of a file
        raise
    finally:
        partial.unlink(missing_ok=True)


def file_hash(path):
    """The sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def array_hash(array):
    """The sha256 of an array's bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def write_arrays(path, arrays, **record):
    """Write named numpy arrays as safetensors with `record` (JSON values) in the header.

    The record is one header entry: safetensors orders several at random, which would change the file's hash.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic(path) as partial:
        partial.write_bytes(serialise(arrays, {"record": json.dumps(record, sort_keys=True)}))


def _opened(path):
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return safe_open(path, "np")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a safetensors file, or a truncated one ({error})") from None


def read_record(path):
    """The record in the header of a file that `write_arrays` wrote."""
    with _opened(path) as file:
        try:
            record = json.loads(file.metadata()["record"])
        except (TypeError, KeyError, ValueError, RecursionError):
            record = None
    if not isinstance(record, dict):
        raise ValueError(f"{path}: a safetensors file of another program (no record in its header)")
    return record


def read_arrays(path, *names):
    """(arrays by name, record) of a file that `write_arrays` wrote. Raises ValueError where a name is missing."""
    record = read_record(path)
    with _opened(path) as file:
        present = set(file.keys())
        if missing := [name for name in names if name not in present]:
            raise ValueError(f"{path}: holds {', '.join(sorted(present))}, but not {', '.join(missing)}")
        try:
            return {name: file.get_tensor(name) for name in names or sorted(present)}, record
        except (SafetensorError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: holds numbers of a kind that numpy has not ({error})") from None


def _array(file, size):
    """The array in an open .npy file of `size` bytes, which must be what its header announces. Raises ValueError."""
    major, _ = np.lib.format.read_magic(file)
    if major > 2:
        raise ValueError("its array has named fields")
    header = (np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0)[major - 1](file)
    shape, _, dtype = header
    announced = file.tell() + math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and announced != size:  # objects are a pickle, which is refused below
        raise ValueError(f"{size} bytes, but its header announces {announced}")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _archive(path):
    """The one image array of a user's .npz or .npy file. Raises ValueError before a lie about sizes costs memory."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            if file.read(2) != b"PK":
                file.seek(0)
                return _array(file, path.stat().st_size)
            with zipfile.ZipFile(file) as archive:
                members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
                if outside := [name for name in members if ".." in name or name.startswith(("/", "\\"))]:
                    raise ValueError(f"it names a file outside, {outside[0]!r}")
                known = [name for name in ("images", "samples", "arr_0") if name in members] or list(members)
                if not known:
                    raise ValueError("it is empty")
                chosen = members[known[0]]
                if chosen.file_size > max(UNPACKED, RATIO * path.stat().st_size):
                    raise ValueError(f"{path.stat().st_size} bytes that unpack to {chosen.file_size}")
                with archive.open(chosen) as member:
                    return _array(member, chosen.file_size)
    except Exception as error:  # of a dozen kinds, by the library that finds out
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: not an .npy or .npz file of plain numbers ({reason})") from None


def read_picture(source, name):
    """A picture of 8 bits from a file or an open one, as a PIL image in mode L or RGB. Raises ValueError naming it."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as picture:
                if picture.mode.startswith(("I", "F")):
                    raise ValueError("more than 8 bits a channel")
                return picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    except Exception as error:  # of a dozen kinds, by the format
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{name}: not a picture ({reason})") from None


def _folder(path):
    """The pictures in a folder, by name: [n, H, W] or [n, H, W, 3] uint8."""
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES and file.is_file())
    if not files:
        raise ValueError(f"{path}: no pictures ({', '.join(PICTURES)}) in this folder")
    pictures = []
    for file in files:
        pictures.append(np.asarray(read_picture(file, file)))
        if pictures[-1].shape != pictures[0].shape:
            raise ValueError(f"{file}: of shape {pictures[-1].shape}; {files[0].name} is {pictures[0].shape}")
    return np.stack(pictures)


def as_images(array, path, maximum=None):
    """Any image array as [n, C, H, W] float32 in [-1, 1]. uint8 is taken as 0..`maximum`, by default 255; floats must
    lie in [-1, 1]. Raises ValueError naming path."""
    array = np.asarray(array)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or 0 in array.shape:
        raise ValueError(f"{path}: images of shape {array.shape}; expected [n, C, H, W], [n, H, W, C] or [n, H, W]")
    if array.shape[-1] in (1, 3) and array.shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.dtype == np.uint8 and maximum is not None:
        if type(maximum) is not int or not max(1, array.max()) <= maximum:
            raise ValueError(f"{path}: values up to {array.max()}; its record says that {maximum!r} is the largest")
        return array.astype(np.float32) * np.float32(2 / maximum) - 1
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(127.5) - 1
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{path}: images of type {array.dtype}; expected uint8 (0 to 255) or floats in [-1, 1]")
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: images contain NaN or infinity")
    if np.abs(array).max() > 1.001:
        raise ValueError(f"{path}: values from {array.min():.3g} to {array.max():.3g}; floats must lie in [-1, 1]")
    return array.astype(np.float32)


def read_images(path, count=None):
    """The first `count` images of a file: [n, C, H, W] float32 in [-1, 1].

    path: a subset (integers 0..`maximum`), a synthetic set, or a user's .npz, .npy or folder of pictures.
    Raises ValueError, naming the file, for anything else and where there are fewer than `count`.
    """
    path, record = Path(path), {}
    if path.suffix in (".npz", ".npy"):
        array = _archive(path)
    elif path.is_dir():
        array = _folder(path)
    else:
        arrays, record = read_arrays(path, "images")
        array = arrays["images"]
    first = array[:count] if array.ndim else array  # a few of many: the others are not converted
    images = as_images(first, path, record.get("maximum"))
    if count is not None and count > len(images):
        raise ValueError(f"{path}: holds {len(images)} images; {count} were asked for")
    return images


def write_json(path, value):
    """Write `value` as indented JSON with sorted keys; NaN is refused."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path):
    """Read a JSON file. Raises ValueError naming it when it is missing or malformed."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


def read_csv(path, *columns):
    """A table as a pandas frame. Raises ValueError naming the file where it is none, or has not all the columns."""
    import pandas as pd

    try:
        frame = pd.read_csv(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: not a table ({' '.join(str(error).split())})") from None
    if missing := [name for name in columns if name not in frame]:
        raise ValueError(f"{path}: no column {', '.join(missing)}")
    if columns and not len(frame):
        raise ValueError(f"{path}: a table without rows")
    if words := [name for name in columns if frame[name].dtype.kind not in "iuf"]:
        raise ValueError(f"{path}: column {words[0]} holds more than numbers")
    return frame


def write_csv(path, frame):
    """Write a pandas frame without its index, numbers to six significant digits."""
    with atomic(path) as partial:
        frame.to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
