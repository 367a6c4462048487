"""Which bytes of a file are locked, as another process sees it."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
from pathlib import Path

FLOCK = struct.Struct("hhqqi4x")

_PROBE = """
import fcntl, os, struct, sys
flock = struct.Struct("hhqqi4x")
fd = os.open(sys.argv[1], os.O_RDONLY)
for position in range(1024):
    asked = flock.pack(fcntl.F_WRLCK, os.SEEK_SET, position, 1, 0)
    if flock.unpack(fcntl.fcntl(fd, 36, asked))[0] != fcntl.F_UNLCK:
        print(position)
"""


def locked_bytes(path: Path) -> set[int]:
    """The locked positions among the first 1024, by F_OFD_GETLK (36) in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-S", "-c", _PROBE, path], capture_output=True, check=True, text=True
    )
    return {int(line) for line in run.stdout.split()}


class Holder:
    """Somebody who holds single bytes of a file, as any program may that locks images."""

    def __init__(self, path: Path, *positions: int) -> None:
        self._fd = os.open(path, os.O_RDWR)
        for position in positions:
            lock = FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, position, 1, 0)
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, lock)

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
