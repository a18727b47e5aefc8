"""What workers run in `test_same_program`: they import it for that, and it imports only what they need."""

from __future__ import annotations

import numpy as np


def predict(batch):
    return np.stack([np.tanh(batch.sum(axis=1)), np.cos(batch[:, 0])], axis=1)


def gradient(rows, weights):
    return rows.T @ np.tanh(rows @ weights)


def raises(x):
    """Raise a ValueError."""
    raise ValueError(f"no root of {x}")


def raises_by_name(x):
    """As `raises`."""
    return raises(x)
