"""The replies of a connection, packed into one buffer until they are sent together.

doc/proto.md, "Simple reply message" and "Structured reply chunk message". Where structured replies were
agreed, reads and block status get them; a simple reply stays right for all that carry no payload.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence

from qmon.nbd.constants import (
    CHUNK,
    DATA_CHUNK,
    REPLY_FLAG_DONE,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    Command,
    ReplyType,
)

# Plain integers: an enum's attribute costs more than packing a reply does.
_OFFSET_DATA = int(ReplyType.OFFSET_DATA)
_READ = int(Command.READ)
_ERROR = struct.Struct(">IH")
_ERROR_FIELD = struct.Struct(">I")
_EXTENT = struct.Struct(">II")
_SMALL_REPLY = 256
"""More than any reply takes that carries neither data nor extents."""


def allocate(size: int) -> memoryview:
    """A zeroed buffer whose pages cost nothing until they are used (a bytearray's all are at once)."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class Replies:
    """A buffer of ``size`` bytes. A reply whose payload is larger than ``room`` is sent piece by piece."""

    def __init__(self, size: int, *, structured: bool) -> None:
        self.structured = structured
        self.room = size - _SMALL_REPLY
        self._data_header = DATA_CHUNK.size if structured else SIMPLE_REPLY.size
        self._buffer = allocate(size)
        self.filled = 0

    def take(self) -> memoryview:
        """Everything packed so far; from here on the buffer is empty, and what was taken valid until the next
        reply is added."""
        packed = self._buffer[: self.filled]
        self.filled = 0
        return packed

    def has_room(self, payload: int) -> bool:
        """Whether a reply with ``payload`` bytes can be added before the others are sent."""
        return self.filled + payload <= self.room

    def space(self, length: int) -> memoryview:
        """Where the data of the next reply, a read's, has to be put."""
        start = self.filled + self._data_header
        return self._buffer[start : start + length]

    def rest(self, length: int) -> memoryview:
        """Where a piece of the data goes behind ``begin_data``; who puts it there adds to ``filled``."""
        return self._buffer[self.filled : self.filled + length]

    def begin_data(self, cookie: int, offset: int, length: int, *, is_last: bool = True) -> None:
        """Begin to answer a read of so much; its data follows. ``is_last``: no other reply to it does."""
        if self.structured:
            DATA_CHUNK.pack_into(
                self._buffer,
                self.filled,
                STRUCTURED_REPLY_MAGIC,
                REPLY_FLAG_DONE if is_last else 0,
                _OFFSET_DATA,
                cookie,
                8 + length,
                offset,
            )
        else:
            SIMPLE_REPLY.pack_into(self._buffer, self.filled, SIMPLE_REPLY_MAGIC, 0, cookie)
        self.filled += self._data_header

    def add_data(self, cookie: int, offset: int, length: int, *, is_last: bool = True) -> None:
        """Answer a read whose data is in ``space(length)``; ``length`` is at least 1."""
        self.begin_data(cookie, offset, length, is_last=is_last)
        self.filled += length

    def add_done(self, cookie: int, command: int) -> int:
        """Answer that a request without a payload in its reply succeeded; return the reply's place."""
        at = self.filled
        if self.structured and command == _READ:
            self._add_chunk(ReplyType.NONE, cookie, b"")
        else:
            SIMPLE_REPLY.pack_into(self._buffer, at, SIMPLE_REPLY_MAGIC, 0, cookie)
            self.filled = at + SIMPLE_REPLY.size
        return at

    def add_error(self, cookie: int, command: int, error: int) -> None:
        """Answer that a request failed with one of the protocol's error values."""
        if self.structured and command in (_READ, Command.BLOCK_STATUS):
            text = os.strerror(error).encode()
            self._add_chunk(ReplyType.ERROR, cookie, _ERROR.pack(error, len(text)) + text)
        else:
            self.fail(self.add_done(cookie, command), error)

    def fail(self, place: int, error: int) -> None:
        """Turn the simple reply at ``place`` into a failure, while it has not been taken."""
        _ERROR_FIELD.pack_into(self._buffer, place + 4, error)

    def add_extents(self, cookie: int, context_id: int, extents: Sequence[tuple[int, int]]) -> None:
        """Answer BLOCK_STATUS with one or more pairs of a length and its status."""
        payload = b"".join(_EXTENT.pack(*extent) for extent in extents)
        self._add_chunk(ReplyType.BLOCK_STATUS, cookie, struct.pack(">I", context_id) + payload)

    def _add_chunk(self, kind: ReplyType, cookie: int, payload: bytes) -> None:
        at = self.filled
        CHUNK.pack_into(self._buffer, at, STRUCTURED_REPLY_MAGIC, REPLY_FLAG_DONE, kind, cookie, len(payload))
        end = at + CHUNK.size + len(payload)
        self._buffer[at + CHUNK.size : end] = payload
        self.filled = end
