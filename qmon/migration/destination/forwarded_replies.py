"""The replies to forwarded requests, on their way back to the source."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from qmon.block.node import Buffer
from qmon.migration.wire.forward import MAX_LENGTH, MAX_REQUESTS, REPLY, Kind, pack
from qmon.migration.wire.receiving import send_all
from qmon.migration.wire.security import Line

_pack_reply = REPLY.pack


class Sender:
    """Sends whole messages. For any thread."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._turn = threading.Lock()

    def send(self, message: Sequence[Buffer]) -> None:
        """Send a message's pieces. Raises OSError."""
        with self._turn:
            send_all(self._line, message)

    def reply(self, cookie: int, code: int, data: Buffer = b"") -> None:
        """Send the reply to one request. Raises OSError."""
        record = _pack_reply(code, cookie, len(data))
        self.send(pack(Kind.REPLIES, [record, data], number=1))


class Replies:
    """The replies that one thread collects, to send them together."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._records: list[bytes] = []
        self._data = memoryview(bytearray(MAX_LENGTH))
        self._filled = 0

    def has_room(self, length: int) -> bool:
        """Whether a reply with so many bytes of data can be added before ``send``."""
        return self._filled + length <= MAX_LENGTH and len(self._records) < MAX_REQUESTS

    def space(self, length: int) -> memoryview:
        """Return the memory for the data of the next reply."""
        return self._data[self._filled : self._filled + length]

    def add(self, cookie: int, length: int = 0) -> None:
        """Add the reply to a success, whose data is already in ``space(length)``."""
        self._records.append(_pack_reply(0, cookie, length))
        self._filled += length

    def send(self) -> None:
        """Send what was collected. Raises OSError."""
        if self._records:
            records, self._records = self._records, []
            data, self._filled = self._data[: self._filled], 0
            self._sender.send(pack(Kind.REPLIES, [b"".join(records), data], number=len(records)))
