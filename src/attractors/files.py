"""Files that are written completely or not at all, and hashes of files."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def temporary(path: str | Path) -> Path:
    """Return the path where a file is written before it is renamed to `path`.

    The name is fixed, so the next writer overwrites what a killed writer left.
    """
    return Path(path).with_name(f".{Path(path).name}.tmp{Path(path).suffix}")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, and remove it if it fails.

    Folders that do not exist are made. An OSError names `path` where it names no other file.
    """
    partial = temporary(path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk raises an error without a name
        raise
    finally:
        partial.unlink(missing_ok=True)


def file_hash(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
