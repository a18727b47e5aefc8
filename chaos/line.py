"""``python -m chaos.line NAME NAME SECONDS``: connect two network devices with a delay.

A replacement of ``tc netem delay``, which many kernels lack. The devices disappear when the program ends.
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
    """A file descriptor of an Ethernet device of this network namespace."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP | _NO_HEADER))
    return descriptor


def carry(one: int, other: int, seconds: float) -> None:
    """Forward frames with a delay, without end."""
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
            except OSError:  # frames to a device that is down are lost
                continue


if __name__ == "__main__":
    names, delay = sys.argv[1:3], float(sys.argv[3])
    ends = [device(name) for name in names]
    print("ready", flush=True)
    carry(*ends, delay)
