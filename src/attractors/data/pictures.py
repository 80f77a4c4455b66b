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
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from attractors.data.kinds import HEAD, PICTURES, READ, UNREAD, kind_of, suffix_of

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
            if visible(name) and path.is_dir():
                queue.append(path)
            elif visible(name) and path.is_file():
                files.append(name)
            elif visible(name) and path.is_symlink() and suffix_of(name) in PICTURES:
                raise ValueError(f"{path}: a link to {os.readlink(path)}, where nothing is")
    return sorted(files)


class Files:
    """The visible files of a folder or of an open zip: {name: kind}, and those that are pictures, in natural order.

    Raises ValueError where some are pictures of kinds that are not read: the set without them would be another one.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile | None = None) -> None:
        self.path, self.archive, self.kinds = path, archive, {}
        for name in sorted(member.filename for member in members(archive, path)) if archive else files_in(path):
            with archive.open(name) if archive else open(path / name, "rb") as file:
                self.kinds[name] = kind_of(file.read(HEAD), f"{path}/{name}")
        if unread := [name for name, kind in self.kinds.items() if kind in UNREAD]:
            listed = Counter(self.kinds[name] for name in unread).most_common()
            kinds = ", ".join(f"{count} {kind}" for kind, count in listed)
            raise ValueError(
                f"{path}: pictures of kinds that are not read: {kinds}, first {unread[0]}; save them as PNG"
            )
        self.pictures = natural(name for name, kind in self.kinds.items() if kind in READ or kind == "broken")

    def source(self, name: str) -> Path | io.BytesIO:
        """Return what PIL opens; of a zip the whole content, so that its checksum counts."""
        return io.BytesIO(self.archive.read(name)) if self.archive else self.path / name


def aside(names: Iterable[str]) -> str:
    """Return in words how many files of each suffix there are: "2 .json, 1 no suffix"."""
    kinds = Counter(suffix_of(name) or "no suffix" for name in names)
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(5))


def left_aside(files: Files, taken: Collection[str]) -> list[str]:
    """Return [what is said of the files that are not `taken`], or nothing where there are none."""
    others = sorted(set(files.kinds) - set(taken))
    return [f"{len(others)} other files left aside: {aside(others)}"] * bool(others)


def check_one_set(path: Path, names: list[str], fewest: int = 2) -> None:
    """Raise ValueError where the names of files say that they are several sets side by side.

    They do where words such as train, masks, real or step_1000 tell folders or files apart, and where most files of
    one folder, `fewest` or more, have namesakes in another.
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
    if len(namesakes) >= fewest and 2 * len(namesakes) >= min(map(len, folders.values())):
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
                # what Pillow's decoder of each tile is called with: the depth that the file has
                tiles = [tile[3] if isinstance(tile[3], tuple) else tile[3:] for tile in picture.tile]
                given = [picture.mode, *(part for tile in tiles for part in tile)]
                deep = [part for part in given if isinstance(part, str) and re.search(r";(12|16|32)|^[IF]", part)]
                if deep or (picture.format == "PPM" and any(type(part) is int and part > 255 for part in given)):
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


def names_of(files: Files, together: bool) -> list[str]:
    """Return the names of the pictures of one set. together: take what looks like several sets as one.

    Raises ValueError where there are several sets, and where a picture is there in two formats.
    """
    stems = Counter(PurePosixPath(name).with_suffix("") for name in files.pictures)
    for name, copies in stems.most_common(1):
        if copies > 1:
            counts = f"as which it would count {copies} times; leave one"
            raise ValueError(f"{files.path}: holds {name} in {copies} formats, {counts}")
    if not together:
        check_one_set(files.path, files.pictures)
    return files.pictures


def read_pictures(files: Files, count: int | None, together: bool) -> tuple[np.ndarray, str]:
    """Return ([n, C, H, W] uint8, how they were read, in words) of the first `count` pictures of a set.

    together: as in `names_of`. Raises ValueError where there are none, where sizes differ, and for several sets.
    """
    path, pictures, notes, arrays = files.path, names_of(files, together), Counter(), []
    if not pictures:
        holds = f"; it holds {aside(files.kinds)}" if files.kinds else ""
        raise ValueError(f"{path}: no pictures ({', '.join(PICTURES[:5])}, ...) in it{holds}")
    for name in pictures[:count]:
        arrays.append(np.asarray(read_picture(files.source(name), f"{path}/{name}", notes)))
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
    words += left_aside(files, pictures)
    array = np.stack(arrays)
    return array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2), ", ".join(words)


def members(archive: zipfile.ZipFile, path: Path) -> Iterator[zipfile.ZipInfo]:
    """Yield the visible files of the zip `path`.

    Raises ValueError for a name outside, a name that is there twice, and for what unpacks to much more than the zip.
    """
    seen, size = set(), path.stat().st_size
    for member in archive.infolist():
        name = member.filename
        if ".." in re.split(r"[/\\]", name) or name.startswith(("/", "\\")):
            raise ValueError(f"it names a file outside, {name.removesuffix('.npy')!r}")
        if not member.is_dir() and visible(name):
            if name in seen:
                raise ValueError(f"holds two files called {name}")
            if member.file_size > max(UNPACKED, RATIO * size):
                raise ValueError(f"{size} bytes that unpack to {member.file_size}")
            seen.add(name)
            yield member


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile | None]:
    """Open a zip, or None for a folder. Raises ValueError naming it for what goes wrong while a zip is read."""
    if path.is_dir():
        yield None
        return
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except Exception as error:  # of a dozen kinds, by how its members are packed
        raise ValueError(f"{path}: not a zip of pictures ({' '.join(str(error).split())[:200]})") from None
