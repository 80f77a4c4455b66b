"""What an array of images is: the one place that decides on its range, its channels and the order of its axes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attractors.arrays import array_shape, read_arrays, read_record, read_rows
from attractors.data.archives import NoImagesError, read_idx, read_numpy, read_tensors
from attractors.data.kinds import PICTURES, READ, UNREAD, kind_of_file, suffix_of
from attractors.data.pictures import (
    ALL,
    are_pictures,
    aside,
    check_one_set,
    natural,
    of_folder,
    read_zip,
    stacked,
    zip_holds,
)

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


def check_count(path: object, number: int, count: int | None) -> None:
    """Raise ValueError where a set of `number` images does not have as many as were asked for."""
    if count is not None and count > number:
        raise ValueError(f"{path}: holds {number} images; {count} were asked for")


def foreign(
    array: np.ndarray, path: object, values: str | None = None, words: str = "", ordered: bool = False,
    count: int | None = None,
) -> Images:
    """The first `count` images of a foreign array. Raises ValueError where its axes or its range cannot be known.

    values: a name of RANGES, for an array whose values leave it open. words: how it was read. ordered: [n, C, H, W].
    """
    kind, array = array.dtype, array if ordered else channels_first(array, path)
    if kind.kind not in "uif":
        raise ValueError(f"{path}: images of type {kind}; expected uint8 (0 to 255) or floats in [-1, 1]")
    check_count(path, len(array), count)
    array = np.asarray(array[:count])
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


def kind_of_set(path: Path) -> str:
    """Return what a set of images is stored as: folder, zip (of pictures), npz, npy, torch, idx, or own.

    "own" is a file that this project wrote. The content decides, and the suffix where it does not tell. Raises
    ValueError for a file of another kind.
    """
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    kind, suffix = kind_of_file(path), suffix_of(path.name)
    if kind == "zip":
        return "npz" if suffix == ".npz" else zip_holds(path)
    if kind in ("npy", "torch", "idx", "own"):
        return kind
    if kind in READ | UNREAD or suffix in PICTURES:
        raise ValueError(f"{path}: one picture; a set is a folder or a zip of pictures, one image each")
    if kind == "gzip" and "idx" in path.name:
        return "idx"
    if kind == "pickle":
        raise ValueError(
            f"{path}: a pickle, which is not read; if it is of CIFAR-10: attractors subset cifar10 --source FOLDER"
        )
    if suffix or kind:
        wanted = "a set is .npz, .npy, .pt, .zip or a folder of pictures"
        raise ValueError(f"{path}: {suffix or kind} is not read; {wanted}")
    return "own"


def _own(path: Path, count: int | None) -> Images:
    """Return the images of a file that this project wrote; those beyond `count` are not converted."""
    try:
        arrays, record = read_arrays(path, "images")
    except ValueError as error:
        missing = any(words in str(error) for words in ("another program", "but not images"))
        raise (NoImagesError if missing else ValueError)(str(error)) from None
    array = arrays["images"]
    first = array[:count] if array.ndim else array
    shape = " x ".join(map(str, [*array.shape[2:], *array.shape[1:2]]))
    said = f"{len(first) if array.ndim else 0:,} images, {shape}, {array.dtype}, as this project stores them"
    check_count(path, len(array) if array.ndim else 0, count)
    return Images(as_images(first, path, record.get("maximum")), said, own=True)


def _array_of(
    path: Path, kind: str, name: str | None = None, count: int | None = None
) -> tuple[np.ndarray, str]:
    """Return (the array of images in a file of one's own, its name or ""); at least the first `count` images."""
    if kind == "idx":
        return read_idx(path)
    return read_tensors(path, name) if kind == "torch" else read_numpy(path, name, count)


def _part(path: Path) -> Images | np.ndarray:
    """Return the images in one of several files of a folder: an array where its range is yet to be known."""
    kind = kind_of_set(path)
    if kind in ("own", "zip"):
        return open_images(path)
    array, _ = _array_of(path, kind)
    if array.ndim < 2:
        raise NoImagesError(f"{path}: of shape {array.shape}, which no images have")
    return array


def _one_image_each(arrays: list[np.ndarray]) -> bool:
    """Return whether several arrays are one image each: [H, W], or three axes of which one end is the channels."""
    shapes = {array.shape for array in arrays}
    shape = arrays[0].shape
    return len(arrays) > 1 == len(shapes) and (
        len(shape) == 2 or (len(shape) == 3 and (shape[0] in (1, 3, 4)) != (shape[2] in (1, 3, 4)))
    )


def _folder(path: Path, count: int | None, values: str | None, together: bool) -> Images:
    """Return the pictures in a folder, or the images of all arrays in it one after the other.

    Raises ValueError where it holds both, and where arrays do not belong together.
    """
    kinds = of_folder(path)
    pictures = are_pictures(kinds)
    files = natural(name for name, kind in kinds.items() if kind in ("npy", "zip", "torch", "own", "idx"))
    parts, without = {}, []
    for name in files:
        try:
            parts[name] = _part(path / name)
        except NoImagesError as error:
            without.append(error)
    if pictures and parts:
        raise ValueError(f"{path}: holds {len(pictures)} pictures and {', '.join([*parts][:3])}; name one of them")
    if not parts:
        if without and not pictures:
            raise NoImagesError(str(without[0]) + f" ({len(without)} such files in {path})" * (len(without) > 1))
        array, words, number = stacked(path, kinds, lambda name: path / name, count, together)
        check_count(path, number, count)
        return foreign(array, path, values, words, ordered=True)
    if len({suffix_of(name) for name in parts}) > 1:
        raise ValueError(f"{path}: {len(parts)} archives of images; name one of them ({', '.join([*parts][:5])})")
    if not together:
        check_one_set(path, list(parts))
    first, others = next(iter(parts)), set(kinds) - set(parts)
    words = f"{len(parts)} files, {first} to {[*parts][-1]}" if len(parts) > 1 else first
    words += f", {len(others)} other files left aside: {aside(others)}" * bool(others)
    whole = [part for part in parts.values() if isinstance(part, Images)]
    arrays = [part.array if isinstance(part, Images) else part for part in parts.values()]
    each = not whole and _one_image_each(arrays)
    shapes, types = {array.shape[0 if each else 1:] for array in arrays}, {str(array.dtype) for array in arrays}
    if len(shapes) > 1 or len(types) > 1 or 0 < len(whole) < len(parts):
        listed = " and of ".join(sorted(map(str, shapes if len(shapes) > 1 else types)))
        raise ValueError(f"{path}: archives of images of {listed}")
    array = np.stack(arrays) if each else np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    if whole:
        check_count(path, len(array), count)
        return Images(array[:count], f"{len(array):,} images ({words}): {whole[0].said}", all(p.own for p in whole))
    return foreign(array, path, values, words, count=count)


def open_images(path: str | Path, count: int | None = None, values: str | None = None) -> Images:
    """Return the first `count` images of a file, and what it was taken for.

    path: a subset or synthetic set of this project; .npy, .npz, tensors of torch.save, idx; a zip or a folder of
    pictures; a folder of arrays. FILE:NAME takes one of several arrays, FOLDER:all several sets as one. values: a name
    of RANGES, for sets whose values leave their range open. Raises ValueError, naming the file, for anything else, for
    what cannot be known, and where there are fewer images.
    """
    path, name = divided(path)
    kind = kind_of_set(path)
    together = name == ALL and kind in ("folder", "zip")
    if name is not None and not together and kind not in ("npz", "torch"):
        raise ValueError(f"{path}: holds no arrays by name, such as {name}")
    if kind == "own":
        return _own(path, count)
    if kind == "folder":
        return _folder(path, count, values, together)
    if kind == "zip":
        array, words, number = read_zip(path, count, together)
        check_count(path, number, count)
        return foreign(array, path, values, words, ordered=True)
    array, words = _array_of(path, kind, name, count)
    return foreign(array, path, values, words, count=count)


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
