"""Read pickles of plain numpy arrays, and files of torch.save, safely.

One that asks for anything else is refused before anything is called.
"""

import argparse
import io
import pickle
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from attractors.data.kinds import HEAD, refuse_pointer


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """Begin an array as numpy does.

    Only empty arrays are allowed, because another shape could ask for any amount of memory.
    """
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"an array that begins as {str(shape)[:40]}")
    return np._core.multiarray._reconstruct(kind, shape, code)  # type: ignore[attr-defined]


class NumpyUnpickler(pickle._Unpickler):
    """An unpickler that admits only the names that an array's pickle needs.

    It extends the unpickler written in Python. The one written in C allocates room for every memo number up to the
    largest it meets, which can be gigabytes for a pickle of a hundred bytes.
    """

    ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function that a pickle names. Raises UnpicklingError unless it is in ALLOWED."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are read")
        return self.ALLOWED[module, name]

    def _refuse_bytearray(self) -> None:  # whose room is made, and filled, before its bytes are read
        raise pickle.UnpicklingError("it holds a bytearray")

    dispatch: ClassVar = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: _refuse_bytearray}  # type: ignore


def numpy_pickle(content: bytes, name: str, encoding: str = "ASCII") -> Any:
    """Return the dicts, lists and arrays in a pickle.

    content is the bytes of the pickle, and name is used in messages. Raises ValueError where it holds anything else.
    """
    try:
        return NumpyUnpickler(io.BytesIO(content), encoding=encoding).load()
    except Exception as error:  # of a dozen kinds, by the opcode
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{name}: not a pickle of plain numpy arrays ({reason})") from None


class Options:
    """Stands in for a class of a checkpoint's options: attributes, and no behaviour."""

    def __init__(self, *_: object) -> None:
        pass


class Kind:
    """Stands in for numpy.dtype: the kind of number that a scalar of numpy is."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="


def _scalar(kind: np.dtype, content: bytes) -> Any:
    """Return a scalar of numpy as a plain number. Raises UnpicklingError for anything else, such as an object."""
    if not isinstance(kind, Kind) or not re.fullmatch(r"[biuf][1-8]", str(kind.code)) or not isinstance(content, bytes):
        raise pickle.UnpicklingError("a scalar of numpy that is no number")
    return np.frombuffer(content, np.dtype(kind.order + kind.code), 1)[0].item()


STAND_INS: Any = [
    (argparse.Namespace, "argparse.Namespace"),
    (Kind, "numpy.dtype"), (_scalar, "numpy.core.multiarray.scalar"), (_scalar, "numpy._core.multiarray.scalar"),
    *((Options, name) for name in (
        "parse_utils.DataOptions", "parse_utils.TrainOptions", "parse_utils.ModelOptions", "pathlib.PosixPath",
        "pathlib._local.PosixPath", "pathlib.WindowsPath",
    )),
]


def read_torch(path: str | Path) -> object:
    """Return what torch.save wrote, if it is tensors and plain values.

    Raises ValueError for anything else, without effect.
    """
    import torch

    try:
        with open(path, "rb") as file:
            refuse_pointer(file.read(HEAD), path)
        with torch.serialization.safe_globals(STAND_INS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if not asked:  # torch's words advise to load it unsafely
            raise ValueError(f"{path}: not a file of torch.save, or a damaged one") from None
        raise ValueError(f"{path}: more than weights; it asks for {asked[1]}, which is refused") from None
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or ["it ends too soon"])[0]
        raise ValueError(f"{path}: not a file of torch.save, or a truncated one ({reason})") from None
