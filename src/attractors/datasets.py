"""Where images come from: each source returns all training images as uint8 with the value that means white."""

import numpy as np


def digits():
    """1,797 handwritten digits of 8 x 8 pixels, values 0..16, shipped inside scikit-learn (no download)."""
    from sklearn.datasets import load_digits

    return load_digits().images[:, None].astype(np.uint8), 16, "scikit-learn load_digits"


SOURCES = {"digits": digits}


def load(name):
    """(images: [n, C, H, W] uint8 in 0..maximum, maximum, source) of the dataset called `name`."""
    if name not in SOURCES:
        raise ValueError(f"unknown dataset {name!r}; known are {', '.join(sorted(SOURCES))}")
    return SOURCES[name]()
