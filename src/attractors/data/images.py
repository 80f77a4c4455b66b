"""Images that people bring: archives, folders of pictures, and sets that this project wrote."""

import math
import warnings
import zipfile
from pathlib import Path

import numpy as np

from attractors.arrays import array_shape, read_arrays, read_record, read_rows

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # others, such as EPS, run programs
UNPACKED, RATIO = 2**28, 200  # an archive may unpack to so many bytes, or to so many times its size


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


class ImageFile:
    """The images of a file as `read_images` takes it, of which some rows are read: a set may be larger than memory.

    Only safetensors files are read by rows. What people bring, an archive or a folder, is read at once.
    Raises ValueError naming the file where it is none, or where rows are read that are no images.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self._images = Path(path), None
        if self.path.is_dir() or self.path.suffix in (".npz", ".npy"):
            self._images = read_images(self.path)
            self._count = len(self._images)
        else:
            self._maximum = read_record(self.path).get("maximum")
            self._count = (*array_shape(self.path, "images"), 0)[0]

    def __len__(self) -> int:
        return self._count

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The images numbered `numbers`: [m], each in 0..len - 1, as [m, C, H, W] float32 in [-1, 1]."""
        if self._images is not None:
            return self._images[numbers]
        return as_images(read_rows(self.path, "images", numbers), self.path, self._maximum)
