"""Pickles of plain numpy arrays, and nothing else: whatever another pickle would call is never called."""

import io
import pickle
from typing import ClassVar

import numpy as np


def _reconstruct(kind, shape, code):
    """numpy's beginning of an array, which is empty: with another shape it could ask for any amount of memory."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"an array that begins as {str(shape)[:40]}")
    return np._core.multiarray._reconstruct(kind, shape, code)


class NumpyUnpickler(pickle._Unpickler):
    """The unpickler that admits the three names of which an array's pickle is made.

    It is the one in Python: that in C makes room for every number that an object may be remembered by, gigabytes for a
    pickle of a hundred bytes.
    """

    ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are read")
        return self.ALLOWED[module, name]


def numpy_pickle(content, name, encoding="ASCII"):
    """What a pickle of dicts, lists and arrays holds. content: its bytes. Raises ValueError naming it otherwise."""
    try:
        return NumpyUnpickler(io.BytesIO(content), encoding=encoding).load()
    except Exception as error:  # of a dozen kinds, by the opcode
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{name}: not a pickle of plain numpy arrays ({reason})") from None
