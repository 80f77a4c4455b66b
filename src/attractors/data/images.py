"""What an array of images is: the one place that decides on its range, its channels and the order of its axes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attractors.arrays import array_shape, read_arrays, read_record, read_rows
from attractors.data.archives import TORCH, read_numpy, read_tensors
from attractors.data.pictures import PICTURES, holds_arrays, read_folder, read_zip

# What floats, or whole numbers, can stand for: (the number of black, that of white).
RANGES = {"symmetric": (-1, 1), "unit": (0, 1), "bytes": (0, 255)}
OVERSHOOT = 1e-3  # of the range's width: what rounding, or an interpolation, may add
DARK = -0.5  # floats that reach below it are in [-1, 1]: no set of [0, 1] does, and no set of [-1, 1] is so bright
NARROW = 0.55  # of the other set's span of values: at most so much of it, and a set is in half the range of the other


@dataclass(frozen=True)
class Images:
    """A set of images, and what its file was taken for.

    array: [n, C, H, W] float32 in [-1, 1]. said: one line, for people. own: of a file that this project wrote.
    """

    array: np.ndarray
    said: str
    own: bool


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


def channels_first(array: np.ndarray, path: object) -> np.ndarray:
    """Return a foreign array as [n, C, H, W], where C is 1, 3 or, with transparency, 4.

    Raises ValueError where the order of its axes cannot be known.
    """
    shape = array.shape
    expected = "expected [n, C, H, W], [n, H, W, C] or [n, H, W] with 1 or 3 channels"
    if array.ndim == 2:
        raise ValueError(f"{path}: images of shape {shape}, one row each? {expected}")
    if array.ndim not in (3, 4) or 0 in shape:
        raise ValueError(f"{path}: images of shape {shape}; {expected}")
    if array.ndim == 3:
        if shape[2] in (1, 3, 4) or shape[0] == 3:
            raise ValueError(f"{path}: of shape {shape}: one image in colour, or {shape[0]} grey ones? {expected}")
        return array[:, None]
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if not (first or last):
        first, last = shape[1] == 4, shape[3] == 4
    if first == last:
        reason = "channels at either end?" if first else f"{shape[1]} or {shape[3]} channels?"
        raise ValueError(f"{path}: images of shape {shape}: {reason} {expected}")
    return array if first else array.transpose(0, 3, 1, 2)


def without_transparency(array: np.ndarray, path: object) -> tuple[np.ndarray, str]:
    """Return ([n, 3, H, W], what was done in words) of [n, 4, H, W] bytes: what is transparent is laid on white.

    Raises ValueError for floats, which may be latents.
    """
    if array.dtype != np.uint8:
        raise ValueError(f"{path}: four channels of {array.dtype}: transparency, or latents? 1 or 3 are images")
    colour, alpha = array[:, :3], array[:, 3:]
    if alpha.min() == 255:
        return colour, ""
    weight = alpha.astype(np.uint32)
    laid = (colour * weight + 255 * (255 - weight) + 127) // 255
    return laid.astype(np.uint8), ", what is transparent laid on white"


def range_of(array: np.ndarray, path: object, values: str | None) -> str:
    """Return which of RANGES a foreign array of numbers is in. Raises ValueError where its values leave that open.

    values: what holds where they do. Bytes are in 0..255, unless none is above 1. Floats are in [-1, 1] where some lie
    below DARK; where none does, [0, 1] would look the same.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{path}: images contain NaN or infinity")
    low, high, whole = float(array.min()), float(array.max()), array.dtype.kind in "ui"
    fit = [name for name, (black, white) in RANGES.items()
           if black - OVERSHOOT * (white - black) <= low and high <= white + OVERSHOOT * (white - black)]
    if 1 + OVERSHOOT < high <= 2 and not whole:
        fit = []  # beyond every range of floats, and no picture of bytes is so dark
    if low < DARK and "symmetric" in fit and not whole:
        return "symmetric"
    if high > 1 + OVERSHOOT and "bytes" in fit and (whole or values == "bytes"):
        return "bytes"
    if high > 1 + OVERSHOOT and "bytes" in fit:
        raise ValueError(f"{path}: floats from {low:.3g} to {high:.3g}; --range bytes if black is 0 and white 255")
    fit = [name for name in fit if name != ("symmetric" if whole else "bytes")]
    wanted = "whole numbers must lie in 0 to 255" if whole else "floats must lie in [-1, 1]"
    if not fit:
        raise ValueError(f"{path}: {array.dtype} from {low:.3g} to {high:.3g}; {wanted}")
    if values in fit:
        return values
    words = "none is below 0" if low >= 0 else f"none is below {DARK}"
    raise ValueError(
        f"{path}: {array.dtype} from {low:.3g} to {high:.3g}, {words}: which numbers are black and white? --range "
        + " or --range ".join(f"{name} ({RANGES[name][0]}, {RANGES[name][1]})" for name in fit)
    )


def foreign(
    array: np.ndarray, path: object, values: str | None = None, words: str = "", ordered: bool = False
) -> Images:
    """Images of a foreign array. Raises ValueError where its axes or its range cannot be known.

    values: a name of RANGES, for an array whose values leave it open. words: how it was read. ordered: [n, C, H, W].
    """
    kind, array = array.dtype, array if ordered else channels_first(array, path)
    if kind.kind not in "uif":
        raise ValueError(f"{path}: images of type {kind}; expected uint8 (0 to 255) or floats in [-1, 1]")
    low, high, noted = array.min(), array.max(), ""
    if array.shape[1] == 4:
        array, noted = without_transparency(array, path)
    name = range_of(array, path, values)
    black, white = RANGES[name]
    images = array.astype(np.float32) if name != "bytes" else array.astype(np.float32) / np.float32(127.5) - 1
    images = images if name != "unit" else images * 2 - 1
    n, channels, height, width = images.shape
    taken = "" if kind == np.uint8 and name == "bytes" else f", taken for [{black}, {white}]"
    said = f"{n:,} images, {height} x {width} x {channels}, {kind} from {low:.3g} to {high:.3g}{taken}{noted}"
    return Images(images, f"{said}{f' ({words})' if words else ''}", own=False)


def divided(path: str | Path) -> tuple[Path, str | None]:
    """Return (file, name of an array) of FILE or FILE:NAME."""
    path = Path(path)
    if ":" in path.name and not path.exists():
        name, _, array = path.name.rpartition(":")
        return path.with_name(name), array
    return path, None


def is_own(path: Path) -> bool:
    """Return whether a path is, by its name, a file that this project wrote: .safetensors, or without a suffix."""
    return path.suffix.lower() in ("", ".safetensors") and not path.is_dir()


def open_images(path: str | Path, count: int | None = None, values: str | None = None) -> Images:
    """Return the first `count` images of a file, and what it was taken for.

    path: a subset or synthetic set of this project; .npy, .npz, tensors of torch.save, a zip or a folder of pictures;
    FILE:NAME takes one of several arrays. values: a name of RANGES, for sets whose values leave their range open.
    Raises ValueError, naming the file, for anything else, for what cannot be known, and where there are fewer images.
    """
    path, name = divided(path)
    suffix = path.suffix.lower()
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    if name is not None and suffix not in (".npz", ".zip", *TORCH):
        raise ValueError(f"{path}: holds no arrays by name, such as {name}")
    array, ordered = None, path.is_dir()
    if ordered:
        array, words = read_folder(path)
    elif suffix in (".npz", ".npy"):
        array, words = read_numpy(path, name)
    elif suffix in TORCH:
        array, words = read_tensors(path, name)
    elif suffix == ".zip":
        ordered = not holds_arrays(path)
        array, words = read_zip(path) if ordered else read_numpy(path, name)
    elif suffix in PICTURES:
        raise ValueError(f"{path}: one picture; a set is a folder or a zip of pictures, one image each")
    elif not is_own(path):
        raise ValueError(f"{path}: {suffix} is not read; a set is .npz, .npy, .pt, .zip or a folder of pictures")
    if array is not None:
        images = foreign(array, path, values, words, ordered)
    else:
        arrays, record = read_arrays(path, "images")
        array = arrays["images"]
        first = array[:count] if array.ndim else array  # a few of many: the others are not converted
        shape = " x ".join(map(str, [*array.shape[2:], *array.shape[1:2]]))
        said = f"{len(first) if array.ndim else 0:,} images, {shape}, {array.dtype}, as this project stores them"
        images = Images(as_images(first, path, record.get("maximum")), said, own=True)
    if count is not None and count > len(images.array):
        raise ValueError(f"{path}: holds {len(images.array)} images; {count} were asked for")
    return Images(images.array[:count], images.said, images.own)


def read_images(path: str | Path, count: int | None = None, values: str | None = None) -> np.ndarray:
    """Return the images alone of `open_images`: [n, C, H, W] float32 in [-1, 1]."""
    return open_images(path, count, values).array


def is_grey(array: np.ndarray) -> bool:
    """Return whether the channels of all images [n, C, H, W] are the same."""
    return bool((array == array[:, :1]).all())


def brought_together(s: Images, s_prime: Images, names: tuple[object, object], vouched: bool) -> tuple[Images, Images]:
    """S and S' as sets that can be compared. Raises ValueError where they cannot belong together.

    A set that is grey in three channels takes one beside a grey one, which its line says. One that is grey, or in half
    the range, beside one that is not, is refused: a network may well draw colours after grey images in three channels,
    but so may the wrong file. vouched: both are known to be right.
    """
    sets = [s, s_prime]
    for i, (one, other) in enumerate(((s, s_prime), (s_prime, s))):
        if one.array.shape[1] == 3 and other.array.shape[1] == 1 and is_grey(one.array):
            sets[i] = Images(one.array[:, :1], f"{one.said}, grey: one of its three channels is taken", one.own)
    shapes = [part.array.shape[1:] for part in sets]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{names[1]}: images of shape {shapes[1]}; those of {names[0]} are {shapes[0]}")
    if s.own and s_prime.own:
        return sets[0], sets[1]
    if not vouched and shapes[0][0] == 3 and is_grey(sets[0].array) != is_grey(sets[1].array):
        grey = names[1] if is_grey(sets[1].array) else names[0]
        raise ValueError(
            f"{grey}: grey in three channels, and the other set is in colour; --range says that they belong together"
        )
    spans = [float(np.ptp(part.array)) for part in sets]
    if not vouched and min(spans) < NARROW * max(spans):
        ends = [f"{name} from {part.array.min():.3g} to {part.array.max():.3g}"
                for name, part in zip(names, sets, strict=True)]
        raise ValueError(
            f"as [-1, 1] {' and '.join(ends)}: one is in half the range of the other; --range says that this is right"
        )
    return sets[0], sets[1]


class ImageFile:
    """The images of a file as `read_images` takes it, of which some rows are read: a set may be larger than memory.

    Only files of this project are read by rows. What people bring, an archive or a folder, is read at once.
    Raises ValueError naming the file where it is none, or where rows are read that are no images.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self._images = Path(path), None
        if not is_own(self.path):
            self._images = read_images(self.path)
            self._count = len(self._images)
        else:
            self._maximum = read_record(self.path).get("maximum")
            self._count = (*array_shape(self.path, "images"), 0)[0]

    def __len__(self) -> int:
        return self._count

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return the images numbered `numbers`: [m], each in 0..len - 1, as [m, C, H, W] float32 in [-1, 1]."""
        if self._images is not None:
            return self._images[numbers]
        return as_images(read_rows(self.path, "images", numbers), self.path, self._maximum)
