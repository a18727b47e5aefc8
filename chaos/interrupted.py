"""``python -m chaos.interrupted ADDRESS``: a caller who is interrupted while workers take long."""

from __future__ import annotations

import signal
import sys
import time

import numpy as np
from distributed import Client

import codedmap as cm

CODE = cm.KernelCode(tasks=6, workers=8, stragglers=2)
LONG = 3.0
"""Seconds that every call takes."""


def late(batch: np.ndarray) -> np.ndarray:
    """The batch, after a while."""
    time.sleep(LONG)
    return batch


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also if we run in the background
    with Client(sys.argv[1]) as client, cm.engines.Dask(client) as engine:
        print("it has begun", flush=True)
        cm.map(late, np.ones((60, 5)), code=CODE, engine=engine, stop=cm.Everyone())
