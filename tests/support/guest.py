"""A guest's disk for tests and benchmarks: an NBD export, one request at a time."""

from __future__ import annotations

import os
import time
from pathlib import Path

from qmon.nbd.constants import Command
from tests.support.nbd_client import NbdClient
from tests.support.waiting import PATIENCE


class Guest:
    """A client of the export ``name`` on a Unix socket. Raises OSError with the errno the server gave."""

    def __init__(self, path: Path, name: str, timeout: float = 3 * PATIENCE) -> None:
        self.client = NbdClient(path, timeout)
        try:
            self.client.go(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.client.close()

    def _request(self, command: Command, offset: int, length: int, data: bytes = b"") -> bytes:
        reply = self.client.ask(command, offset, length, data=data)
        if reply.error:
            raise OSError(reply.error, os.strerror(reply.error))
        return reply.data

    def read(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes."""
        return self._request(Command.READ, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Write; on return it is acknowledged."""
        self._request(Command.WRITE, offset, len(data), data)

    def trim(self, offset: int, length: int) -> None:
        """Say that a range is not needed any more."""
        self._request(Command.TRIM, offset, length)

    def flush(self) -> None:
        """Flush; on return what was acknowledged before is on stable storage."""
        self._request(Command.FLUSH, 0, 0)


def guest_when_served(path: Path, name: str) -> Guest:
    """A guest of an export that is about to be there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return Guest(path, name)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
