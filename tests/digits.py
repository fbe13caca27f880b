"""scikit-learn's digits as 8-bit images, split for LeNet-5."""

import numpy as np


def split():
    """Return (images, labels) for training and (images, labels) held out.

    images: (N, 8, 8) uint8, ink bright. Of each digit, every fourth image in a seeded order is
    held out.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(1998).permutation(len(images))
    held = np.zeros(len(images), bool)
    for digit in range(10):
        own = order[found.target[order] == digit]
        held[own[::4]] = True
    labels = found.target.astype(np.int64)
    return (images[~held], labels[~held]), (images[held], labels[held])
