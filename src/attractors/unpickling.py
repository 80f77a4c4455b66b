"""Pickles of plain numpy arrays, and nothing else: whatever another pickle would call is never called."""

import io
import pickle
from typing import ClassVar

import numpy as np


class NumpyUnpickler(pickle.Unpickler):
    """pickle.Unpickler that admits the three names of which an array's pickle is made."""

    ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
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
