"""Files written whole or not at all, and their hashes."""

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path


def temporary(path):
    """Where a file is written before it is renamed to `path`: fixed, so the next writer overwrites a killed one's."""
    return Path(path).with_name(f".{Path(path).name}.tmp{Path(path).suffix}")


@contextmanager
def atomic(path):
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it does not."""
    partial = temporary(path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is met in the middle of a file
        raise
    finally:
        partial.unlink(missing_ok=True)


def file_hash(path):
    """The sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
