"""Reads a small file that a user named. A pipe, a device or a huge file can't block it or fill the memory."""

from __future__ import annotations

import errno
import os
import select
import stat
import time

LIMIT_BYTES = 16 << 20
PATIENCE_SECONDS = 5.0
"""How long to wait for a pipe's data and end. A longer wait would keep a thread from other work."""


def open_small(path: str) -> int:
    """Open a file for ``read_small``; does not wait for a pipe's writer. Raises OSError or ValueError."""
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def read_small(descriptor: int, limit: int = LIMIT_BYTES) -> bytes:
    """Read a file to its end; close it. Raises OSError: EFBIG for a large file, ETIMEDOUT for a slow pipe."""
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
    """Wait until there is something to read, or, if something was read before, the end."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise OSError(errno.ETIMEDOUT, f"no data within {PATIENCE_SECONDS:.0f} s")
        events = dict(poll.poll(left * 1000)).get(descriptor, 0)
        if events & select.POLLIN or (events and begun):
            return
        if events:
            time.sleep(0.01)  # a pipe without a writer hangs up at once if it had one before


def read_file(path: str, limit: int = LIMIT_BYTES) -> bytes:
    """Open and read at most ``limit`` bytes. Raises OSError or ValueError."""
    return read_small(open_small(path), limit)
