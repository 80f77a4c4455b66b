"""What an array of images is: the one place that decides on its range, its channels and the order of its axes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attractors.arrays import array_shape, read_record, read_rows
from attractors.data.archives import OVERSHOOT, arrays_in, as_images, one_set, read_array
from attractors.data.kinds import kind_of_set
from attractors.data.pictures import ALL, Files, opened, read_pictures

# What floats, or whole numbers, can stand for: (the number of black, that of white).
RANGES = {"symmetric": (-1, 1), "unit": (0, 1), "bytes": (0, 255)}
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
    array: np.ndarray, path: object, values: str | None = None, words: str = "", ordered: bool = False,
    count: int | None = None,
) -> Images:
    """The first `count` images of a foreign array. Raises ValueError where its axes or its range cannot be known.

    values: a name of RANGES, for an array whose values leave it open. words: how it was read. ordered: [n, C, H, W].
    """
    kind, array = array.dtype, (array if ordered else channels_first(array, path))[:count]
    if kind.kind not in "uif":
        raise ValueError(f"{path}: images of type {kind}; expected uint8 (0 to 255) or floats in [-1, 1]")
    low, high, noted = array.min(), array.max(), ""
    if array.shape[1] == 4:
        array, noted = without_transparency(array, path)
    name = range_of(array, path, values)
    black, white = RANGES[name]
    images = np.require(array, np.float32, "W")  # a copy, unless it is already such an array
    images = images / np.float32(127.5) - 1 if name == "bytes" else images * 2 - 1 if name == "unit" else images
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


def open_images(path: str | Path, count: int | None = None, values: str | None = None) -> Images:
    """Return the first `count` images of a file, and what it was taken for.

    path: a subset or synthetic set of this project; .npy, .npz, tensors of torch.save, idx, a batch of CIFAR; a zip or
    a folder of pictures; a folder of arrays. FILE:NAME takes one of several arrays, FOLDER:all several sets as one.
    values: a name of RANGES, for sets whose values leave their range open. Raises ValueError, naming the file, for
    anything else, for what cannot be known, and where there are fewer images.
    """
    path, name = divided(path)
    kind = kind_of_set(path)
    together = name == ALL and kind in ("folder", "zip")
    if name is not None and not together and kind not in ("npz", "torch"):
        raise ValueError(f"{path}: holds no arrays by name, such as {name}")
    if kind in ("folder", "zip"):
        with opened(path) as archive:
            files = Files(path, archive)
            arrays = {} if archive else arrays_in(files)
            array, words = one_set(files, arrays, together) if arrays else read_pictures(files, count, together)
        values = "symmetric" if {files.kinds[name] for name in arrays} == {"own"} else values
        images = foreign(array, path, values, words, ordered=not arrays, count=count)
    else:
        array, words = read_array(path, kind, name, count)
        images = Images(array, words, own=True) if kind == "own" else foreign(array, path, values, words, count=count)
    if count is not None and count > len(images.array):
        raise ValueError(f"{path}: holds {len(images.array)} images; {count} were asked for")
    return images


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
        if kind_of_set(self.path) != "own":
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
