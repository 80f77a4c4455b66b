"""Read pickles of plain numpy arrays safely. A pickle that asks for anything else is refused before anything is
called.
"""

import io
import pickle
from typing import Any, ClassVar

import numpy as np


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """Begin an array as numpy does. Only empty arrays are allowed, because another shape could ask for any amount of
    memory.
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


def numpy_pickle(content: bytes, name: str, encoding: str = "ASCII") -> Any:
    """Return the dicts, lists and arrays in a pickle.

    content is the bytes of the pickle, and name is used in messages. Raises ValueError where it holds anything else.
    """
    try:
        return NumpyUnpickler(io.BytesIO(content), encoding=encoding).load()
    except Exception as error:  # of a dozen kinds, by the opcode
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{name}: not a pickle of plain numpy arrays ({reason})") from None
