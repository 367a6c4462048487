"""A guest for benchmarks and tests: one NBD connection, one request at a time.

Source: the NBD protocol, fixed newstyle negotiation with NBD_OPT_GO, simple replies.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from types import TracebackType

from qmon.nbd.constants import Command, Option

_OPTION = struct.Struct(">8sII")
_OPTION_REPLY = struct.Struct(">QIII")
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")
_REQUEST_MAGIC = 0x25609513
_REPLY_ACK = 1
_REPLY_ERROR = 1 << 31


class Guest:
    """A client of the export ``name`` on a Unix socket. Raises OSError with the errno the server gave."""

    def __init__(self, path: Path, name: str, timeout: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            self._negotiate(name.encode())
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _receive(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ConnectionResetError("the NBD server closed the connection")
            data += piece
        return bytes(data)

    def _negotiate(self, name: bytes) -> None:
        self._receive(18)  # two magics and the server's flags
        self._socket.sendall(struct.pack(">I", 3))  # fixed newstyle, no zeroes
        body = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
        self._socket.sendall(_OPTION.pack(b"IHAVEOPT", Option.GO, len(body)) + body)
        while True:
            _, _, reply, length = _OPTION_REPLY.unpack(self._receive(_OPTION_REPLY.size))
            text = self._receive(length)
            if reply == _REPLY_ACK:
                return
            if reply & _REPLY_ERROR:
                raise OSError(f"the NBD server refused the export: {text.decode(errors='replace')}")

    def _request(self, command: Command, offset: int, length: int, data: bytes = b"") -> bytes:
        self._socket.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, command, 1, offset, length) + data)
        _, error, _ = _REPLY.unpack(self._receive(_REPLY.size))
        if error:
            raise OSError(error, os.strerror(error))
        return self._receive(length) if command is Command.READ else b""

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
