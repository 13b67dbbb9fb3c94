"""scikit-learn's handwritten digits as 8-bit images, split into training and held-out parts.

Source: UCI "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, 1998
(https://doi.org/10.24432/C50P49), CC BY 4.0; scikit-learn carries its 1,797 test scans.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


def training() -> Digits:
    """Return the training part: images [1437,8,8], background 0, and labels [1437]."""
    images, _, labels, _ = _split()
    return images, labels


def held_out() -> Digits:
    """Return the held-out part, unused in training: images [360,8,8] and labels [360]."""
    _, images, _, labels = _split()
    return images, labels


def _split() -> list[NDArray]:
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # scans hold 0..16
    labels = digits.target.astype(np.int64)
    return train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
