"""Read the pictures that people bring, in folders and zips, as one array.

Files that operating systems put beside pictures are ignored.
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # others, such as EPS, run programs
LEFT_BY_SYSTEMS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}
UNPACKED, RATIO = 2**28, 200  # an archive's member may unpack to so many bytes, or to so many times the archive's size


def visible(name: str) -> bool:
    """Return whether no part of a path is hidden (.name) or one of the folders that systems put beside pictures."""
    return not any(part.startswith(".") or part in LEFT_BY_SYSTEMS for part in PurePosixPath(name).parts)


def is_picture(name: str) -> bool:
    """Return whether a name ends like one of the kinds of pictures that are read here, in capitals or not."""
    return PurePosixPath(name).suffix.lower() in PICTURES


def natural(names: Iterable[str]) -> list[str]:
    """Return paths in the order in which people count: 2.png before 10.png, folder by folder."""
    from natsort import natsorted, ns

    return natsorted(sorted(names), alg=ns.PATH)


def files_in(folder: Path) -> list[str]:
    """Return the visible files in a folder and its subfolders as paths below it, in alphabetical order.

    Links to folders are followed, and each folder is visited only once. Raises ValueError for a picture that is a link
    to nothing, as where the content of a git-annex was not fetched.
    """
    found, queue, seen = [], [folder], set()
    while queue:
        here = queue.pop()
        if (identity := here.resolve()) in seen:
            continue
        seen.add(identity)
        for path in here.iterdir():
            name = path.relative_to(folder).as_posix()
            if not visible(name):
                continue
            if path.is_dir():
                queue.append(path)
            elif path.is_file():
                found.append(name)
            elif path.is_symlink() and is_picture(name):
                raise ValueError(f"{path}: a link to {os.readlink(path)}, where nothing is")
    return sorted(found)


def read_picture(source: Path | io.BytesIO, name: object, notes: Counter | None = None) -> PILImage:
    """Return a picture of 8 bits as people see it, as a PIL image in mode L or RGB. Raises ValueError naming it.

    source: a file, or an open one. Turned as its EXIF says; what is transparent is laid on white. notes: counts both.
    """
    from PIL import Image, ImageOps

    notes = Counter() if notes is None else notes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as picture:
                if picture.mode.startswith(("I", "F")):
                    raise ValueError("more than 8 bits a channel")
                if picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La"):
                    raise ValueError(f"its colours are {picture.mode}, whose RGB depends on a profile; save it as RGB")
                if (frames := getattr(picture, "n_frames", 1)) > 1:
                    raise ValueError(f"an animation of {frames} frames")
                turned = ImageOps.exif_transpose(picture)
                notes["turned as EXIF says"] += turned.getexif() != picture.getexif()
                grey = picture.mode in ("1", "L", "LA", "La")
                if turned.has_transparency_data:
                    turned = turned.convert("RGBA")
                    if np.asarray(turned.getchannel("A")).min() < 255:
                        notes["with what is transparent laid on white"] += 1
                        turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
                return turned.convert("L" if grey else "RGB")
    except Exception as error:  # of a dozen kinds, by the format
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{name}: not a picture ({reason})") from None


def stacked(path: Path, names: list[str], opened: Callable[[str], Path | io.BytesIO]) -> tuple[np.ndarray, str]:
    """Return ([n, C, H, W] uint8, how they were read, in words) of the pictures among `names`. C: 1 or 3.

    path: what they lie in, for messages. opened: gives what PIL opens for a name. Raises ValueError where there are
    none, where sizes differ, and where subfolders are the splits of a dataset, which are not one set.
    """
    pictures = natural(name for name in names if is_picture(name))
    if not pictures:
        kinds = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in names)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
        raise ValueError(f"{path}: no pictures ({', '.join(PICTURES)}) in it{'; it holds ' + listed if listed else ''}")
    name, copies = Counter(PurePosixPath(name).with_suffix("") for name in pictures).most_common(1)[0]
    if copies > 1:
        raise ValueError(f"{path}: holds {name} in {copies} formats, as which it would count {copies} times; leave one")
    folders = {str(PurePosixPath(name).parent) for name in pictures}
    splits = sorted({part for folder in folders for part in PurePosixPath(folder).parts if part.lower() in SPLITS})
    if len(splits) > 1:
        raise ValueError(f"{path}: holds {' and '.join(splits)}, which are different sets; name one of these folders")
    notes, arrays = Counter(), []
    for name in pictures:
        arrays.append(np.asarray(read_picture(opened(name), f"{path}/{name}", notes)))
        if arrays[-1].shape[:2] != arrays[0].shape[:2]:
            sizes = [" x ".join(map(str, array.shape[:2])) for array in (arrays[-1], arrays[0])]
            raise ValueError(f"{path}/{name}: of {sizes[0]} pixels; {pictures[0]} is {sizes[1]}")
    grey = sum(array.ndim == 2 for array in arrays)
    if 0 < grey < len(arrays):
        notes["grey, in three channels"] = grey
        arrays = [array if array.ndim == 3 else np.stack([array] * 3, 2) for array in arrays]
    words = [f"{pictures[0]} to {pictures[-1]}" if len(pictures) > 1 else pictures[0]]
    words += [f"in {len(folders)} folders"] * (len(folders) > 1)
    words += [f"{count} {note}" for note, count in notes.items() if count]
    words += [f"{len(names) - len(pictures)} other files left aside"] * (len(names) > len(pictures))
    array = np.stack(arrays)
    return array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2), ", ".join(words)


def read_folder(path: Path) -> tuple[np.ndarray, str]:
    """Return the pictures in a folder and its subfolders, in natural order: as `stacked`."""
    return stacked(path, files_in(path), lambda name: path / name)


def members(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """Yield the visible files of a zip. Raises ValueError for a name outside."""
    for member in archive.infolist():
        if ".." in member.filename or member.filename.startswith(("/", "\\")):
            raise ValueError(f"it names a file outside, {member.filename.removesuffix('.npy')!r}")
        if not member.is_dir() and visible(member.filename):
            yield member


def check_unpacked(member: zipfile.ZipInfo, path: Path) -> None:
    """Raise ValueError for a member that unpacks to much more than the archive's size."""
    if member.file_size > max(UNPACKED, RATIO * path.stat().st_size):
        raise ValueError(f"{path.stat().st_size} bytes that unpack to {member.file_size}")


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip; raise ValueError naming it for what goes wrong while it is read, whatever finds it out."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except Exception as error:  # of a dozen kinds, by how its members are packed
        raise ValueError(f"{path}: not a zip of pictures ({' '.join(str(error).split())[:200]})") from None


def holds_arrays(path: Path) -> bool:
    """Return whether a zip is one of arrays, as NumPy writes it. Raises ValueError naming it where it is no zip."""
    with opened_zip(path) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


def read_zip(path: Path) -> tuple[np.ndarray, str]:
    """Return the pictures in a zip, as the dataset tools of StyleGAN and EDM write them: as `stacked`."""
    with opened_zip(path) as archive:
        found: dict[str, zipfile.ZipInfo] = {}
        for member in members(archive):
            if member.filename in found:
                raise ValueError(f"{path}: holds two files called {member.filename}")
            found[member.filename] = member

        def opened(name: str) -> io.BytesIO:
            check_unpacked(found[name], path)
            return io.BytesIO(archive.read(found[name]))

        return stacked(path, sorted(found), opened)
