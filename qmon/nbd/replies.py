"""Packs the replies of a connection into one buffer, to be sent together.

doc/proto.md, "Simple reply message", "Structured reply chunk message" and "Extended reply chunk message". If
structured replies were negotiated, reads, block status and errors get them; success without a payload is a
simple reply. With extended headers all replies are chunks, which repeat the request's offset.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence

from qmon.nbd.constants import (
    CHUNK,
    DATA_CHUNK,
    EXTENDED_CHUNK,
    EXTENDED_DATA_CHUNK,
    EXTENDED_REPLY_MAGIC,
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
_OFFSET = struct.Struct(">Q")
_HOLE = struct.Struct(">QI")
_STATUS = struct.Struct(">I")
_STATUS_EXT = struct.Struct(">II")
_EXTENT = struct.Struct(">II")
_EXTENT_EXT = struct.Struct(">QQ")
STATUS_HEAD = EXTENDED_CHUNK.size + _STATUS_EXT.size
"""The most bytes of a BLOCK_STATUS chunk besides its extents."""
EXTENT_SIZE = _EXTENT_EXT.size
"""The most bytes of an extent."""
MAX_EXTENT = (1 << 32) - 512
"""The longest extent that fits a chunk whose header is not extended."""
_MESSAGE = 160
"""The longest text of an error in bytes."""
_SMALL_REPLY = 256
"""More bytes than any reply without data and extents takes."""


def allocate(size: int) -> memoryview:
    """Return a zeroed buffer. Unlike a bytearray's, its pages take no memory until they are written."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class Replies:
    """A buffer of ``size`` bytes. A reply whose payload is larger than ``room`` is sent piece by piece.

    ``asked`` is everywhere the offset that the request has; only extended replies contain it.
    """

    def __init__(self, size: int, *, structured: bool, extended: bool = False) -> None:
        self.structured = structured
        self.extended = extended
        self.room = size - _SMALL_REPLY
        heads = EXTENDED_DATA_CHUNK if extended else DATA_CHUNK if structured else SIMPLE_REPLY
        self.data_header = heads.size
        self._chunk_header = EXTENDED_CHUNK.size if extended else CHUNK.size
        self.buffer = allocate(size)
        self.filled = 0
        self._reserved = 0

    def take(self) -> memoryview:
        """Empty the buffer; return the packed replies, which are valid until the next reply is added."""
        packed = self.buffer[: self.filled]
        self.filled = 0
        return packed

    def has_room(self, payload: int) -> bool:
        """Whether a reply with ``payload`` bytes fits into the buffer."""
        return self.filled + self._reserved + payload <= self.room

    def reserve(self) -> None:
        """Keep room for the reply added last, in case that ``fail`` makes it longer."""
        if self.extended:
            self._reserved += _SMALL_REPLY

    def unreserve(self) -> None:
        """Give back all room that is kept."""
        self._reserved = 0

    def space(self, length: int) -> memoryview:
        """Return the memory for the data of the next read reply."""
        start = self.filled + self.data_header
        return self.buffer[start : start + length]

    def rest(self, length: int) -> memoryview:
        """Return memory for data after ``begin_data``; the caller fills it and adds to ``filled``."""
        return self.buffer[self.filled : self.filled + length]

    def begin_data(
        self, cookie: int, offset: int, length: int, *, is_last: bool = True, asked: int | None = None
    ) -> None:
        """Add the header of a read reply of ``length`` bytes of data. ``is_last``: no other chunk follows.

        ``asked`` is ``offset`` unless it is given.
        """
        at = self.filled
        flags = REPLY_FLAG_DONE if is_last else 0
        if self.extended:
            asked = offset if asked is None else asked
            numbers = (flags, _OFFSET_DATA, cookie, asked, 8 + length, offset)
            EXTENDED_DATA_CHUNK.pack_into(self.buffer, at, EXTENDED_REPLY_MAGIC, *numbers)
        elif self.structured:
            DATA_CHUNK.pack_into(
                self.buffer,
                at,
                STRUCTURED_REPLY_MAGIC,
                flags,
                _OFFSET_DATA,
                cookie,
                8 + length,
                offset,
            )
        else:
            SIMPLE_REPLY.pack_into(self.buffer, at, SIMPLE_REPLY_MAGIC, 0, cookie)
        self.filled += self.data_header

    def add_data(
        self, cookie: int, offset: int, length: int, *, is_last: bool = True, asked: int | None = None
    ) -> None:
        """Add a read reply whose data is already in ``space(length)``; ``length`` is at least 1."""
        self.begin_data(cookie, offset, length, is_last=is_last, asked=asked)
        self.filled += length

    def put_data(self, cookie: int, offset: int, data: memoryview) -> bool:
        """Add a read reply with a copy of ``data`` if it fits; return whether it does."""
        length, at = len(data), self.filled + self.data_header
        if self.filled + self._reserved + length > self.room:
            return False
        self.buffer[at : at + length] = data
        self.begin_data(cookie, offset, length)
        self.filled += length
        return True

    def add_hole(
        self, cookie: int, offset: int, length: int, *, is_last: bool = True, asked: int | None = None
    ) -> None:
        """Add a chunk that says that ``length`` bytes, at least 1, read as zeros."""
        hole = _HOLE.pack(offset, length)
        where = offset if asked is None else asked
        self._add_chunk(ReplyType.OFFSET_HOLE, cookie, where, hole, is_last=is_last)

    def add_done(self, cookie: int, command: int, asked: int = 0) -> int:
        """Add a success reply without payload; return its position."""
        at = self.filled
        if self.extended or (self.structured and command == _READ):
            self._add_chunk(ReplyType.NONE, cookie, asked, b"")
        else:
            SIMPLE_REPLY.pack_into(self.buffer, at, SIMPLE_REPLY_MAGIC, 0, cookie)
            self.filled = at + SIMPLE_REPLY.size
        return at

    def add_error(
        self, cookie: int, command: int, error: int, asked: int = 0, *, at: int | None = None, text: str = ""
    ) -> None:
        """Add an error reply with an NBD error value, and the offset where the request failed if known."""
        if not self.structured:
            self.fail([self.add_done(cookie, command)], error)
            return
        message = (text or os.strerror(error)).encode()[:_MESSAGE].decode(errors="ignore").encode()
        payload = _ERROR.pack(error, len(message)) + message
        if at is None:
            self._add_chunk(ReplyType.ERROR, cookie, asked, payload)
        else:
            self._add_chunk(ReplyType.ERROR_OFFSET, cookie, asked, payload + _OFFSET.pack(at))

    def fail(self, places: Sequence[int], error: int) -> None:
        """Turn success replies into error replies. ``places``: where ``add_done`` put them, in order.

        They must not have been taken yet, and not answer a read.
        """
        if not self.extended:
            for place in places:
                _ERROR_FIELD.pack_into(self.buffer, place + 4, error)
            return
        for place in reversed(places):  # an error is longer than the success that it replaces
            _, _, _, cookie, asked, _ = EXTENDED_CHUNK.unpack_from(self.buffer, place)
            following = bytes(self.buffer[place + EXTENDED_CHUNK.size : self.filled])
            self.filled = place
            self.add_error(cookie, Command.FLUSH, error, asked)
            self.buffer[self.filled : self.filled + len(following)] = following
            self.filled += len(following)

    def add_extents(
        self, cookie: int, status: Sequence[tuple[int, Sequence[tuple[int, int]]]], asked: int = 0
    ) -> None:
        """Add a BLOCK_STATUS reply: for each context its id and one or more pairs (length, status).

        Without extended headers no length may be above MAX_EXTENT.
        """
        kind, layout = ReplyType.BLOCK_STATUS, _EXTENT
        if self.extended:
            kind, layout = ReplyType.BLOCK_STATUS_EXT, _EXTENT_EXT
        for number, (context_id, extents) in enumerate(status, 1):
            head = _STATUS_EXT.pack(context_id, len(extents)) if self.extended else _STATUS.pack(context_id)
            payload = head + b"".join(layout.pack(*extent) for extent in extents)
            self._add_chunk(kind, cookie, asked, payload, is_last=number == len(status))

    def _add_chunk(
        self, kind: ReplyType, cookie: int, asked: int, payload: bytes, *, is_last: bool = True
    ) -> None:
        at = self.filled
        flags = REPLY_FLAG_DONE if is_last else 0
        if self.extended:
            head = (EXTENDED_REPLY_MAGIC, flags, kind, cookie, asked, len(payload))
            EXTENDED_CHUNK.pack_into(self.buffer, at, *head)
        else:
            CHUNK.pack_into(self.buffer, at, STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(payload))
        at += self._chunk_header
        self.filled = at + len(payload)
        self.buffer[at : self.filled] = payload
