"""Read the pictures that people bring, in folders and zips, as one array.

Files that operating systems put beside pictures are ignored.
"""

from __future__ import annotations

import io
import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from attractors.data.kinds import HEAD, PICTURES, READ, UNREAD, kind_of, refuse_pointer, suffix_of

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # others, such as EPS, run programs
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La")
LEFT_BY_SYSTEMS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
UNPACKED, RATIO = 2**28, 200  # an archive's member may unpack to so many bytes, or to so many times the archive's size
# Words in names that say which of several sets a file belongs to.
SETS = re.compile(
    "train(ing)?|test(ing)?|val(id|idation)?|real|fake|ref(erence)?s?|gen(erated|erations)?|samples?|synthetic|images?|"
    "imgs?|pictures|masks?|labels?|annotations?|seg(mentation)?s?|ema|raw|inputs?|outputs?|targets?|gt|originals?|"
    "recon(s|structions?)?|(train|test|val)[ab]|hr|lr|high|low|thumbs?|thumbnails?|previews?|grids?|depth|edges"
)
STEPS = re.compile(r"(step|iter|iteration|epoch|ckpt|checkpoint|seed|run|model|kimg|k)s?[-_= ]?\d+")
ALL = "all"  # FOLDER:all takes what looks like several sets as one


def visible(name: str) -> bool:
    """Return whether no part of a path is hidden (.name) or one of the folders that systems put beside pictures."""
    return not any(part.startswith(".") or part in LEFT_BY_SYSTEMS for part in PurePosixPath(name).parts)


def natural(names: Iterable[str]) -> list[str]:
    """Return paths in the order in which people count: 2.png before 10.png, folder by folder."""
    from natsort import natsorted, ns

    return natsorted(sorted(names), alg=ns.PATH)


def files_in(folder: Path) -> list[str]:
    """Return the visible files in a folder and its subfolders as paths below it, in alphabetical order.

    Links to folders are followed, and each folder is visited only once. Raises ValueError for a picture that is a link
    to nothing, as where the content of a git-annex was not fetched.
    """
    files, queue, seen = [], [folder], set()
    while queue:
        place = queue.pop()
        if (identity := place.resolve()) in seen:
            continue
        seen.add(identity)
        for path in place.iterdir():
            name = path.relative_to(folder).as_posix()
            if not visible(name):
                continue
            if path.is_dir():
                queue.append(path)
            elif path.is_file():
                files.append(name)
            elif path.is_symlink() and suffix_of(name) in PICTURES:
                raise ValueError(f"{path}: a link to {os.readlink(path)}, where nothing is")
    return sorted(files)


def by_kind(path: Path, names: Iterable[str], head: Callable[[str], bytes]) -> dict[str, str]:
    """Return {name: kind} of the files of a set, by their first bytes, which `head` gives.

    Raises ValueError where some are pictures of kinds that are not read: the set without them would be another one.
    """
    kinds = {name: kind_of(head(name), f"{path}/{name}") for name in names}
    unread = Counter(kind for kind in kinds.values() if kind in UNREAD)
    if unread:
        listed = ", ".join(f"{count} {kind}" for kind, count in unread.most_common())
        first = next(name for name, kind in kinds.items() if kind in UNREAD)
        raise ValueError(f"{path}: pictures of kinds that are not read: {listed}, first {first}; save them as PNG")
    return kinds


def of_folder(path: Path) -> dict[str, str]:
    """Return {name: kind} of the files in a folder, as `by_kind`."""

    def head(name: str) -> bytes:
        with open(path / name, "rb") as file:
            return file.read(HEAD)

    return by_kind(path, files_in(path), head)


def are_pictures(kinds: dict[str, str]) -> list[str]:
    """Return the names of the pictures among files of these kinds, in natural order."""
    return natural(name for name, kind in kinds.items() if kind in READ or kind == "broken")


def aside(names: Iterable[str]) -> str:
    """Return in words how many files of each suffix there are: "2 .json, 1 no suffix"."""
    kinds = Counter(suffix_of(name) or "no suffix" for name in names)
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(5))


def check_one_set(path: Path, names: list[str]) -> None:
    """Raise ValueError where the names of files say that they are several sets side by side.

    They do where words such as train, masks, real or step_1000 tell folders or files apart, and where most files of
    one folder have namesakes in another.
    """
    folders: dict[str, set[str]] = {}
    marks: dict[tuple[str, ...], str] = {}
    for name in names:
        place = PurePosixPath(name)
        folders.setdefault(str(place.parent), set()).add(place.stem)
        words = [re.split(r"[-_. \d]+", part.lower()) for part in (*place.parent.parts, place.stem)]
        mark = tuple(word for part in words for word in part if SETS.fullmatch(word))
        mark += tuple(part.lower() for part in place.parent.parts if STEPS.fullmatch(part.lower()))
        marks.setdefault(mark, name)
    chosen = f"; name one of them, or {path}:{ALL} for all as one set"
    pair = sorted(folders)
    if len(marks) > 1 or [PurePosixPath(name).name.lower() for name in pair] == ["a", "b"]:
        ones = list(marks.values()) if len(marks) > 1 else [f"{name}/x" for name in pair]
        places = sorted({str(PurePosixPath(name).parent) for name in ones})
        listed = " and ".join((places if len(places) > 1 else ones)[:4])
        raise ValueError(f"{path}: holds {listed}, which are different sets{chosen}")
    stems = Counter(stem for names in folders.values() for stem in names)
    namesakes = sorted(stem for stem, number in stems.items() if number > 1)
    if len(namesakes) > 1 and 2 * len(namesakes) >= min(map(len, folders.values())):
        listed = " and ".join([name for name in pair if namesakes[0] in folders[name]][:4])
        raise ValueError(f"{path}: {len(namesakes)} files have namesakes in {listed}: different sets?{chosen}")


def read_picture(source: Path | io.BytesIO, name: object, notes: Counter | None = None) -> PILImage:
    """Return a picture of 8 bits as people see it, as a PIL image in mode L or RGB. Raises ValueError naming it.

    source: a file, or an open one. Turned as its EXIF says; what is transparent is laid on white. Of a JPEG with a
    second picture behind it, which phones add, the first is taken. notes: counts all of these.
    """
    from PIL import Image, ImageOps

    notes = Counter() if notes is None else notes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as picture:
                arguments = [argument for tile in picture.tile for argument in _arguments(tile)]
                depths = [argument for argument in arguments if type(argument) is int and picture.format == "PPM"]
                modes = [picture.mode, *(argument for argument in arguments if isinstance(argument, str))]
                if max(depths, default=0) > 255 or any(re.search(r";(12|16|32)|^[IF]", mode) for mode in modes):
                    raise ValueError("more than 8 bits a channel")
                if picture.mode not in MODES:
                    raise ValueError(f"its colours are {picture.mode}, whose RGB depends on a profile; save it as RGB")
                frames = getattr(picture, "n_frames", 1)
                if frames > 1 and picture.format != "MPO":
                    raise ValueError(f"an animation of {frames} frames, or as many pages")
                notes["with a second picture behind it, of which the first is taken"] += frames > 1
                turned = ImageOps.exif_transpose(picture)
                notes["turned as EXIF says"] += picture.getexif().get(0x0112, 1) != 1
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


def _arguments(tile: tuple) -> tuple:
    """Return what Pillow's decoder of a tile is called with, which names the depth that the file has."""
    return tile[3] if isinstance(tile[3], tuple) else (tile[3],)


def names_of(path: Path, kinds: dict[str, str], together: bool) -> list[str]:
    """Return the names of the pictures of one set, in natural order.

    kinds: of its files. together: take what looks like several sets as one. Raises ValueError where there are several
    sets, and where a picture is there in two formats.
    """
    pictures = are_pictures(kinds)
    stems = Counter(PurePosixPath(name).with_suffix("") for name in pictures)
    for name, copies in stems.most_common(1):
        if copies > 1:
            counts = f"as which it would count {copies} times; leave one"
            raise ValueError(f"{path}: holds {name} in {copies} formats, {counts}")
    if not together:
        check_one_set(path, pictures)
    return pictures


def picture_names(path: Path, together: bool = False) -> list[str]:
    """Return the names of the pictures in a folder or a zip, in natural order, as `names_of`."""
    if path.is_dir():
        return names_of(path, of_folder(path), together)
    with opened_zip(path) as archive:
        return names_of(path, of_zip(path, archive)[0], together)


def of_zip(path: Path, archive: zipfile.ZipFile) -> tuple[dict[str, str], dict[str, zipfile.ZipInfo]]:
    """Return ({name: kind}, {name: member}) of the files in an open zip, as `by_kind`."""
    files = {member.filename: member for member in members(archive)}

    def head(name: str) -> bytes:
        with archive.open(files[name]) as file:
            return file.read(HEAD)

    return by_kind(path, sorted(files), head), files


def stacked(
    path: Path, kinds: dict[str, str], opened: Callable[[str], Path | io.BytesIO], count: int | None, together: bool
) -> tuple[np.ndarray, str, int]:
    """Return ([n, C, H, W] uint8, how they were read, in words, how many there are) of the pictures of a set.

    path: what they lie in, for messages. opened: gives what PIL opens for a name. count: how many to read; all if
    None. together: take what looks like several sets as one. Raises ValueError where there are none, where sizes
    differ, and where there are several sets.
    """
    pictures = names_of(path, kinds, together)
    if not pictures:
        holds = f"; it holds {aside(kinds)}" if kinds else ""
        raise ValueError(f"{path}: no pictures ({', '.join(PICTURES[:5])}, ...) in it{holds}")
    notes, arrays = Counter(), []
    for name in pictures[:count]:
        arrays.append(np.asarray(read_picture(opened(name), f"{path}/{name}", notes)))
        if arrays[-1].shape[:2] != arrays[0].shape[:2]:
            sizes = [" x ".join(map(str, array.shape[:2])) for array in (arrays[-1], arrays[0])]
            raise ValueError(f"{path}/{name}: of {sizes[0]} pixels; {pictures[0]} is {sizes[1]}")
    grey = sum(array.ndim == 2 for array in arrays)
    if 0 < grey < len(arrays):
        notes["grey, in three channels"] = grey
        arrays = [array if array.ndim == 3 else np.stack([array] * 3, 2) for array in arrays]
    words = [f"{pictures[0]} to {pictures[len(arrays) - 1]}" if len(arrays) > 1 else pictures[0]]
    folders = {PurePosixPath(name).parent for name in pictures}
    words += [f"in {len(folders)} folders"] * (len(folders) > 1)
    words += [f"{number} {note}" for note, number in notes.items() if number]
    if others := set(kinds) - set(pictures):
        words.append(f"{len(others)} other files left aside: {aside(others)}")
    array = np.stack(arrays)
    array = array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2)
    return array, ", ".join(words), len(pictures)


def members(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """Yield the visible files of a zip. Raises ValueError for a name outside, and for a name that is there twice."""
    seen = set()
    for member in archive.infolist():
        name = member.filename
        if ".." in re.split(r"[/\\]", name) or name.startswith(("/", "\\")):
            raise ValueError(f"it names a file outside, {name.removesuffix('.npy')!r}")
        if not member.is_dir() and visible(name):
            if name in seen:
                raise ValueError(f"holds two files called {name}")
            seen.add(name)
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


def zip_holds(path: Path) -> str:
    """Return what a zip holds: "npz" for arrays of NumPy, "torch" for tensors of torch.save, "zip" for other files.

    Raises ValueError naming it where it is no zip.
    """
    with open(path, "rb") as file:
        refuse_pointer(file.read(HEAD), path)
    with opened_zip(path) as archive:
        names = archive.namelist()
    if any(PurePosixPath(name).name == "data.pkl" for name in names):
        return "torch"
    return "npz" if any(name.endswith(".npy") for name in names) else "zip"


def read_zip(path: Path, count: int | None, together: bool) -> tuple[np.ndarray, str, int]:
    """Return the pictures in a zip, as the dataset tools of StyleGAN and EDM write them: as `stacked`."""
    with opened_zip(path) as archive:
        kinds, files = of_zip(path, archive)

        def opened(name: str) -> io.BytesIO:
            check_unpacked(files[name], path)
            return io.BytesIO(archive.read(files[name]))

        return stacked(path, kinds, opened, count, together)
