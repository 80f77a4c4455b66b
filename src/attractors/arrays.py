"""Arrays on disk, as safetensors with one JSON record in the header.

Pickles are never read, and torch is not imported.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from attractors.files import atomic


def array_hash(array: np.ndarray) -> str:
    """Return the sha256 of an array's bytes in C order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], **record: Any) -> None:
    """Write named numpy arrays to `path` as safetensors, with `record` (JSON values) in the header.

    The record is a single header entry, because safetensors writes several entries in random order, which would change
    the file's hash.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic(path) as partial:
        partial.write_bytes(serialise(arrays, {"record": json.dumps(record, sort_keys=True)}))


def rows_header(name: str, shape: tuple[int, ...], record: dict[str, Any]) -> bytes:
    """Return the bytes before the numbers in a file of `write_arrays` with one array [n, ...] of float32.

    The numbers follow in C order, so that they can be written row by row.
    """
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 4 * math.prod(shape)]}
    content = {"__metadata__": {"record": json.dumps(record, sort_keys=True)}, name: entry}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def _opened(path: str | Path) -> safe_open:
    """Open a safetensors file for reading.

    Raises ValueError naming it where it is missing, truncated or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return safe_open(path, "np")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a safetensors file, or a truncated one ({error})") from None


def read_record(path: str | Path) -> dict[str, Any]:
    """Return the record in the header of a file that `write_arrays` wrote.

    Raises ValueError naming the file where it is missing, damaged or of another program.
    """
    with _opened(path) as file:
        try:
            record = json.loads(file.metadata()["record"])
        except (TypeError, KeyError, ValueError, RecursionError):
            record = None
    if not isinstance(record, dict):
        raise ValueError(f"{path}: a safetensors file of another program (no record in its header)")
    return record


def read_arrays(path: str | Path, *names: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return (arrays by name, record) of a file that `write_arrays` wrote. Without `names`, all arrays are read.

    Raises ValueError naming the file where it is missing or damaged, or lacks one of the names.
    """
    record = read_record(path)
    with _opened(path) as file:
        present = set(file.keys())
        if missing := [name for name in names if name not in present]:
            raise ValueError(f"{path}: holds {', '.join(sorted(present))}, but not {', '.join(missing)}")
        try:
            return {name: file.get_tensor(name) for name in names or sorted(present)}, record
        except (SafetensorError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: holds numbers of a kind that numpy has not ({error})") from None


def array_shape(path: str | Path, name: str) -> tuple[int, ...]:
    """Return the shape of one array in a file that `write_arrays` wrote, from its header alone."""
    with _opened(path) as file:
        if name not in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            raise ValueError(f"{path}: holds {', '.join(sorted(file.keys()))}, but not {name}")
        return tuple(file.get_slice(name).get_shape())


def read_rows(path: str | Path, name: str, rows: np.ndarray) -> np.ndarray:
    """Return some rows, in the given order, of one array in a file that `write_arrays` wrote; no other row is read."""
    with _opened(path) as file:
        array = file.get_slice(name)
        try:
            parts = [array[row : row + 1] for row in rows.tolist()]
            return np.concatenate(parts) if parts else array[:0]
        except (SafetensorError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: holds numbers of a kind that numpy has not ({error})") from None
