"""Reading a file that a user named, whatever it turns out to be: a pipe, a device, or far too large."""

from __future__ import annotations

import errno
import os
import select
import stat
import time

LIMIT_BYTES = 16 << 20
PATIENCE_SECONDS = 5.0
"""So long something is waited for where there is no end yet: longer would keep a thread from other work."""


def open_small(path: str) -> int:
    """Open for ``read_small``, without waiting for a pipe's other end. Raises OSError or ValueError."""
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def read_small(descriptor: int, limit: int = LIMIT_BYTES) -> bytes:
    """Read up to the end, and close. Raises OSError, EFBIG and ETIMEDOUT among its errors."""
    try:
        is_pipe = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        data = bytearray()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            if is_pipe:
                _wait(descriptor, deadline, bool(data))
            piece = os.read(descriptor, 1 << 16)
            data += piece
            if not piece:
                return bytes(data)
            if len(data) > limit:
                raise OSError(errno.EFBIG, f"it is longer than {limit >> 20} MiB")
    finally:
        os.close(descriptor)


def _wait(descriptor: int, deadline: float, begun: bool) -> None:
    """Wait until there is something to read, or the end behind what has been read."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise OSError(errno.ETIMEDOUT, f"nothing came for {PATIENCE_SECONDS:.0f} s")
        events = dict(poll.poll(left * 1000)).get(descriptor, 0)
        if events & select.POLLIN or (events and begun):
            return
        if events:
            time.sleep(0.01)  # a pipe whose writer has come and gone hangs up at once, until another comes


def read_file(path: str, limit: int = LIMIT_BYTES) -> bytes:
    """Open and read at most ``limit`` bytes. Raises OSError or ValueError."""
    return read_small(open_small(path), limit)
