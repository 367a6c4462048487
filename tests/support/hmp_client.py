"""A test's end of a human monitor on a Unix socket; QEMU's and qmon's are alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.support.waiting import PATIENCE, connect_when_there, send_all

PROMPT = b"(qemu) "
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class HmpClient:
    """One line at a time; waits for the socket to be there. Raises OSError."""

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self._socket = connect_when_there(path, patience)
        self._socket.settimeout(3 * PATIENCE)  # QEMU may take its time over a disk, beside much else
        self.greeting = self._read()

    def __enter__(self) -> HmpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> str:
        data = b""
        while not data.endswith(PROMPT):
            piece = self._socket.recv(65536)
            if not piece:
                raise ConnectionError(f"the monitor closed after {data!r}")
            data += piece
        return _CONTROL.sub("", data.decode(errors="surrogateescape")).replace("\r", "")

    def lines(self, line: str, descriptors: Sequence[int] = ()) -> list[str]:
        """Give a line, and descriptors along with it; return the lines that it prints."""
        send_all(self._socket, line.encode() + b"\n", descriptors)
        return self._read().split("\n")[1:-1]

    def command(self, line: str, descriptors: Sequence[int] = ()) -> str:
        """The same as one text."""
        return "\n".join(self.lines(line, descriptors))
