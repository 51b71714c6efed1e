"""A cable between two network interfaces that is slow, long and lossy; `machines.py` starts it.

What ``tc netem`` does, for kernels without it: two TAP interfaces, and each frame that enters one
leaves the other, late or not at all. It ends with its interfaces, or when it is killed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME_BYTES = 65536
#: What a port keeps for a slow line, as a switch does; what does not fit in is lost.
QUEUE_S = 1.0


def open_tap(name: str) -> int:
    """Make a TAP interface in this network namespace; it is there as long as the descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return descriptor


class Direction:
    """Frames on their way from one end to the other."""

    def __init__(
        self, target: int, delay_s: float, loss: float, bits_per_s: float | None, seed: int
    ) -> None:
        self.target = target
        self.frames: deque[tuple[float, bytes]] = deque()
        self._delay_s = delay_s
        self._loss = loss
        self._bits_per_s = bits_per_s
        self._random = random.Random(seed)
        self._free_at = 0.0

    def take(self, frame: bytes, now: float) -> None:
        """Let a frame enter."""
        if self._random.random() < self._loss:
            return
        self._free_at = max(now, self._free_at)
        if self._bits_per_s is not None:
            if self._free_at - now > QUEUE_S:
                return
            self._free_at += 8 * len(frame) / self._bits_per_s
        self.frames.append((self._free_at + self._delay_s, frame))

    def due(self, now: float) -> list[bytes]:
        """Tell, once, the frames that have arrived."""
        arrived = []
        while self.frames and self.frames[0][0] <= now:
            arrived.append(self.frames.popleft()[1])
        return arrived


def carry(near: int, far: int, **line: float | None) -> None:
    """Carry frames both ways, forever."""
    ways = {near: Direction(far, seed=1, **line), far: Direction(near, seed=2, **line)}
    while True:
        first = min((way.frames[0][0] for way in ways.values() if way.frames), default=None)
        wait_s = None if first is None else max(0.0, first - time.monotonic())
        for source in select.select(list(ways), [], [], wait_s)[0]:
            try:
                ways[source].take(os.read(source, FRAME_BYTES), time.monotonic())
            except BlockingIOError:
                continue
        for way in ways.values():
            for frame in way.due(time.monotonic()):
                try:
                    os.write(way.target, frame)
                except OSError:  # the interface is down: nobody is there
                    continue


def main() -> None:
    parser = argparse.ArgumentParser(description="A cable between two new TAP interfaces.")
    parser.add_argument("near")
    parser.add_argument("far")
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--loss", type=float, default=0.0, help="as a fraction")
    parser.add_argument("--bits-per-s", type=float)
    options = parser.parse_args()
    line = {"delay_s": options.delay_s, "loss": options.loss, "bits_per_s": options.bits_per_s}
    carry(open_tap(options.near), open_tap(options.far), **line)


if __name__ == "__main__":
    sys.exit(main())
