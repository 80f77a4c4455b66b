"""Tell images that a network drew from averages of several images, which are blurred and lie near the mean image."""

import numpy as np


def sharpness(images: np.ndarray) -> np.ndarray:
    """Return the root mean square difference of neighbouring pixels of each image: [n] float64. images: [n, C, H, W].

    The average of n unrelated images of equal sharpness has 1 / sqrt(n) of it.
    """
    x = images.astype(np.float64)
    return np.sqrt((np.square(np.diff(x, axis=2)).mean((1, 2, 3)) + np.square(np.diff(x, axis=3)).mean((1, 2, 3))) / 2)


def contrast(images: np.ndarray, training: np.ndarray) -> dict[str, float]:
    """Return how sharp images are and how far they lie from the mean training image, relative to the training images.

    images: [n, C, H, W], n > 0. training: [K, C, H, W]. `sharpness` and `from_mean` are medians over the images divided
    by those over the training images. Both are about 1 for images like the training images and lower for averages of
    several.
    """
    mean = training.astype(np.float64).mean(0)
    far, farther = (np.sqrt(np.square(x - mean).sum((1, 2, 3))) for x in (images, training))
    return {
        "sharpness": float(np.median(sharpness(images)) / np.median(sharpness(training))),
        "from_mean": float(np.median(far) / np.median(farther)),
    }
