"""``python -m chaos.interrupted ADDRESS``: a caller that is interrupted during long calls."""

from __future__ import annotations

import signal
import sys
import time

import numpy as np
from distributed import Client

import codedmap as cm

CODE = cm.KernelCode(tasks=6, workers=8, stragglers=2)
LONG = 3.0
"""Seconds per call."""


def late(batch: np.ndarray) -> np.ndarray:
    """The batch, after ``LONG`` seconds."""
    time.sleep(LONG)
    return batch


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background
    with Client(sys.argv[1]) as client, cm.engines.Dask(client) as engine:
        print("started", flush=True)
        cm.map(late, np.ones((60, 5)), code=CODE, engine=engine, stop=cm.Everyone())
