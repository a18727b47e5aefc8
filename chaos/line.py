"""``python -m chaos.line NAME NAME SECONDS``: two network devices, and what enters one leaves the other later.

A stand-in for ``tc netem delay``, which many kernels lack. The devices are gone when the program ends.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF, _TAP, _NO_HEADER = 0x400454CA, 0x0002, 0x1000
_FRAME = 1 << 16


def device(name: str) -> int:
    """An Ethernet device of this network namespace, as a descriptor of its frames."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP | _NO_HEADER))
    return descriptor


def carry(one: int, other: int, seconds: float) -> None:
    """Pass frames on for ever, each so much later."""
    across = {one: other, other: one}
    waiting: deque[tuple[float, int, bytes]] = deque()
    while True:
        left = None if not waiting else max(0.0, waiting[0][0] - time.monotonic())
        readable, _, _ = select.select([one, other], [], [], left)
        for end in readable:
            waiting.append((time.monotonic() + seconds, across[end], os.read(end, _FRAME)))
        while waiting and waiting[0][0] <= time.monotonic():
            _, end, frame = waiting.popleft()
            try:
                os.write(end, frame)
            except OSError:  # a cable that is not plugged in loses what is sent
                continue


if __name__ == "__main__":
    names, delay = sys.argv[1:3], float(sys.argv[3])
    ends = [device(name) for name in names]
    print("ready", flush=True)
    carry(*ends, delay)
