"""A link of given delay and loss between two TUN devices: a process that carries packets from one to the other.

It is a program of its own, so that it competes with nothing for the interpreter, and needs the standard library only:

    python -I emulation_delay.py FD FD DELAY_SECONDS LOSS

It ends when its standard input does, that is with the process that started it.
"""

from __future__ import annotations

import collections
import os
import random
import select
import sys
import time

_LARGEST_PACKET = 65536
#: Packets read from one side before the other has its turn.
_AT_ONCE = 64


def carry(sides: tuple[int, int], delay_s: float, loss: float) -> None:
    """Carry packets between two TUN devices until standard input is closed.

    Args:
        sides: non-blocking descriptors.
        delay_s: of each packet, in each direction.
        loss: share of packets that is dropped at random.
    """
    first, second = sides
    other = {first: second, second: first}
    waiting: dict[int, collections.deque[tuple[float, bytes]]] = {side: collections.deque() for side in sides}
    while True:
        due = [queue[0][0] for queue in waiting.values() if queue]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        ready, _, _ = select.select([first, second, 0], [], [], timeout)
        if 0 in ready and not os.read(0, 1):
            return
        for side in ready:
            if side:
                _read(side, waiting[other[side]], delay_s, loss)
        for side, queue in waiting.items():
            _deliver(side, queue)


def _read(side: int, queue: collections.deque, delay_s: float, loss: float) -> None:
    for _ in range(_AT_ONCE):
        try:
            packet = os.read(side, _LARGEST_PACKET)
        except BlockingIOError:
            return
        if random.random() >= loss:
            queue.append((time.monotonic() + delay_s, packet))


def _deliver(side: int, queue: collections.deque) -> None:
    now = time.monotonic()
    while queue and queue[0][0] <= now:
        try:
            os.write(side, queue[0][1])
        except BlockingIOError:
            return
        queue.popleft()


if __name__ == "__main__":
    carry((int(sys.argv[1]), int(sys.argv[2])), float(sys.argv[3]), float(sys.argv[4]))
