"""Packs the replies of a connection into one buffer, to be sent together.

doc/proto.md, "Simple reply message" and "Structured reply chunk message". If structured replies were
negotiated, reads and block status get them; commands without a payload in the reply get simple ones.
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
STATUS_HEAD = CHUNK.size + 4
"""The bytes of a BLOCK_STATUS chunk besides its extents."""
_SMALL_REPLY = 256
"""More bytes than any reply without data and extents takes."""


def allocate(size: int) -> memoryview:
    """Return a zeroed buffer. Unlike a bytearray's, its pages take no memory until they are written."""
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
        """Empty the buffer; return the packed replies, which are valid until the next reply is added."""
        packed = self._buffer[: self.filled]
        self.filled = 0
        return packed

    def has_room(self, payload: int) -> bool:
        """Whether a reply with ``payload`` bytes fits into the buffer."""
        return self.filled + payload <= self.room

    def space(self, length: int) -> memoryview:
        """Return the memory for the data of the next read reply."""
        start = self.filled + self._data_header
        return self._buffer[start : start + length]

    def rest(self, length: int) -> memoryview:
        """Return memory for data after ``begin_data``; the caller fills it and adds to ``filled``."""
        return self._buffer[self.filled : self.filled + length]

    def begin_data(self, cookie: int, offset: int, length: int, *, is_last: bool = True) -> None:
        """Add the header of a read reply of ``length`` bytes of data. ``is_last``: no other chunk follows."""
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
        """Add a read reply whose data is already in ``space(length)``; ``length`` is at least 1."""
        self.begin_data(cookie, offset, length, is_last=is_last)
        self.filled += length

    def add_done(self, cookie: int, command: int) -> int:
        """Add a success reply without payload; return its position."""
        at = self.filled
        if self.structured and command == _READ:
            self._add_chunk(ReplyType.NONE, cookie, b"")
        else:
            SIMPLE_REPLY.pack_into(self._buffer, at, SIMPLE_REPLY_MAGIC, 0, cookie)
            self.filled = at + SIMPLE_REPLY.size
        return at

    def add_error(self, cookie: int, command: int, error: int) -> None:
        """Add an error reply with an NBD error value."""
        if self.structured and command in (_READ, Command.BLOCK_STATUS):
            text = os.strerror(error).encode()
            self._add_chunk(ReplyType.ERROR, cookie, _ERROR.pack(error, len(text)) + text)
        else:
            self.fail(self.add_done(cookie, command), error)

    def fail(self, place: int, error: int) -> None:
        """Turn the simple reply at ``place`` into an error reply. It must not have been taken yet."""
        _ERROR_FIELD.pack_into(self._buffer, place + 4, error)

    def add_extents(self, cookie: int, status: Sequence[tuple[int, Sequence[tuple[int, int]]]]) -> None:
        """Add a BLOCK_STATUS reply: for each context its id and one or more pairs (length, status)."""
        for number, (context_id, extents) in enumerate(status, 1):
            payload = b"".join(_EXTENT.pack(*extent) for extent in extents)
            payload = struct.pack(">I", context_id) + payload
            self._add_chunk(ReplyType.BLOCK_STATUS, cookie, payload, is_last=number == len(status))

    def _add_chunk(self, kind: ReplyType, cookie: int, payload: bytes, *, is_last: bool = True) -> None:
        at = self.filled
        flags = REPLY_FLAG_DONE if is_last else 0
        CHUNK.pack_into(self._buffer, at, STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(payload))
        end = at + CHUNK.size + len(payload)
        self._buffer[at + CHUNK.size : end] = payload
        self.filled = end
