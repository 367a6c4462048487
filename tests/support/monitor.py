"""A script's end of a monitor on a Unix socket; QEMU's and qmon's are alike."""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType

from tests.support.waiting import connect_when_there

PROMPT = b"(qemu) "
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Monitor:
    """Connects, waiting up to ``patience`` seconds for the socket to be there. Raises OSError."""

    def __init__(self, path: Path, patience: float = 10.0) -> None:
        self._socket = connect_when_there(path, patience)
        self._socket.settimeout(60)
        self.greeting = self._read()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _read(self) -> str:
        data = b""
        while not data.endswith(PROMPT):
            piece = self._socket.recv(65536)
            if not piece:
                raise ConnectionError(f"the monitor closed after {data!r}")
            data += piece
        return _CONTROL.sub("", data.decode(errors="replace")).replace("\r", "")

    def command(self, line: str) -> str:
        """Give one line; return its answer without echo and prompt."""
        self._socket.sendall(line.encode() + b"\n")
        return "\n".join(self._read().split("\n")[1:-1])
