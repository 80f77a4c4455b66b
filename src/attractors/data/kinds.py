"""What a file is, by its first bytes: its name may lack a suffix, or have a wrong one."""

import re
import struct
import zipfile
from pathlib import Path, PurePosixPath

HEAD = 512  # bytes that tell the kind
# Pictures that are read, and pictures that are not. A set without them would be another set.
READ = {
    "png": rb"\x89PNG\r\n\x1a\n", "jpeg": rb"\xff\xd8\xff", "gif": rb"GIF8[79]a", "tiff": rb"II\*\0|MM\0\*",
    "bmp": rb"BM.{4}\0{4}", "webp": rb"RIFF.{4}WEBP", "ppm": rb"P[1-6]\s+[\d#]",
}
UNREAD = {
    "avif": rb".{4}ftypavi[fs]", "heic": rb".{4}ftyp(hei|hev|mif|msf)", "jxl": rb"\xff\n|\0\0\0\x0cJXL ",
    "jp2": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "psd": rb"8BPS", "exr": rb"v/1\x01", "hdr": rb"#\?(RADIANCE|RGBE)",
    "ico": rb"\0\0\x01\0[^\0]", "dds": rb"DDS ", "qoi": rb"qoif", "pam": rb"P7\s", "pfm": rb"P[Ff]\s",
}
OTHER = {
    "pointer": rb"version https://git-lfs\.github\.com/", "npy": rb"\x93NUMPY", "zip": rb"PK[\x03\x05]",
    "torch": rb"\x80.\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", "pickle": rb"\x80[\x02-\x05]", "gzip": rb"\x1f\x8b",
    "idx": rb"\0\0[\x08-\x0e][\x01-\x08]", "own": rb".{6}\0\0\{", "hdf5": rb"\x89HDF",
}
KINDS = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in (READ | UNREAD | OTHER).items()}
# Suffixes of pictures: a file with one is a picture, or it is refused.
PICTURES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", *(f".{kind}" for kind in UNREAD), ".heif", ".tga", ".j2k", ".jpx", ".dng", ".cr2", ".nef", ".arw",
)
SINGLE = ("npz", "npy", "torch", "idx", "pickle", "own")  # files that hold a set each
TORCH = (".pt", ".pth", ".bin", ".ckpt")
ARRAYS = {".npz": "zip", ".npy": "npy", ".zip": "zip", ".safetensors": "own", **dict.fromkeys(TORCH, "torch")}


def suffix_of(name: str) -> str:
    """Return a name's suffix in small letters."""
    return PurePosixPath(name).suffix.lower()


def refuse_pointer(head: bytes, name: object) -> None:
    """Raise ValueError for the three lines of text that stand for a file in a repository cloned without git-lfs."""
    if KINDS["pointer"].match(head):
        raise ValueError(f"{name}: a Git LFS pointer, which stands for the file; git lfs pull fetches it")


def kind_of(head: bytes, name: str) -> str:
    """Return the kind of a file with these first bytes: a key of KINDS, "broken" for a picture by its suffix alone.

    An array or archive that its content does not tell is what its suffix says; everything else is "". Raises
    ValueError for a pointer of git-lfs.
    """
    refuse_pointer(head, name)
    suffix = suffix_of(name)
    kind = next((kind for kind, pattern in KINDS.items() if pattern.match(head)), "")
    if suffix in PICTURES and kind not in READ | UNREAD:
        return "broken"
    if kind == "own" and struct.unpack("<Q", head[:8])[0] > 10**8:
        kind = ""
    return "torch" if kind == "pickle" and suffix in TORCH else kind or ARRAYS.get(suffix, "")


def kind_of_file(path: Path) -> str:
    """Return the kind of a file on disk, as `kind_of`."""
    with open(path, "rb") as file:
        return kind_of(file.read(HEAD), str(path))


def kind_of_set(path: Path) -> str:
    """Return what a set of images is stored as: folder, zip (of pictures), or a kind of SINGLE, own for this project's.

    The content decides, and the suffix where it does not tell. Raises ValueError for a file of another kind.
    """
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    kind, suffix = kind_of_file(path), suffix_of(path.name)
    if kind == "zip" and suffix != ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                names = {PurePosixPath(name).name for name in archive.namelist()}
        except Exception as error:  # of a dozen kinds, by what is damaged
            raise ValueError(f"{path}: not a zip of pictures ({error})") from None
        return "torch" if "data.pkl" in names else "npz" if any(name.endswith(".npy") for name in names) else "zip"
    if kind in (*READ, *UNREAD, "broken"):
        raise ValueError(f"{path}: one picture; a set is a folder or a zip of pictures, one image each")
    kind = {"zip": "npz", "gzip": "idx" if "idx" in path.name else "gzip", "": "" if suffix else "own"}.get(kind, kind)
    if kind not in SINGLE:
        wanted = "a set is .npz, .npy, .pt, .zip or a folder of pictures"
        raise ValueError(f"{path}: {suffix or kind} is not read; {wanted}")
    return kind
