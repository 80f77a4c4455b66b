"""Rows of numbers on disk for the length of a process: features of more images than memory holds."""

import tempfile

import numpy as np


class Scratch:
    """[n, D] float32, written once from `blocks` of rows, then read by slice or index.

    The file has no name: it vanishes with the process, however that ends. Nothing stays in memory between reads.
    folder: where there is room for n x D x 4 bytes.
    """

    def __init__(self, blocks, shape, folder):
        self.shape, self.file = shape, tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with the object)
        for block in blocks:
            self.file.write(np.ascontiguousarray(block, np.float32).data)
        self.file.flush()

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        return np.memmap(self.file, np.float32, "r", shape=self.shape)[index]
