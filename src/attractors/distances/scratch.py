"""Rows of numbers that stay on disk while a process runs, for features of more images than fit in memory."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


class Scratch:
    """A table of float32: [n, D], written once from `blocks` of rows and read by slice or index.

    The file has no name, so that it disappears however the process ends. Nothing stays in memory between reads. folder
    must have room for n x D x 4 bytes.
    """

    def __init__(self, blocks: Iterable[np.ndarray], shape: tuple[int, int], folder: str | Path) -> None:
        self.shape, self.file = shape, tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the object)
        for block in blocks:
            self.file.write(np.ascontiguousarray(block, np.float32).data)
        self.file.flush()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.memmap(self.file, np.float32, "r", shape=self.shape)[index]
