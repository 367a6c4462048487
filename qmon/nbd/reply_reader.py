"""Takes the replies of a server that has many requests to answer. What it sends is checked and bounded.

doc/proto.md, "Transmission", "Structured reply chunk message" and "Extended reply chunk message". Many small
replies come with one call of the system.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

from qmon.nbd.asked import Request, wrong
from qmon.nbd.client_handshake import Agreed
from qmon.nbd.client_socket import NbdError
from qmon.nbd.constants import (
    CHUNK,
    EXTENDED_CHUNK,
    EXTENDED_REPLY_MAGIC,
    MAX_STRING,
    REPLY_FLAG_DONE,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    Command,
    Error,
    ReplyType,
)
from qmon.notation.plain_text import one_line

MAX_EXTENTS = 128 << 10
"""Extents in one reply: as many as QEMU sends at most."""

MAX_CHUNKS = 1 << 16
"""Chunks of one reply: those of 32 MiB in which every sector is a chunk."""

_BUFFER = 128 << 10
_DIRECT = 32 << 10
"""Of data from here on what is not yet received goes past the buffer."""

_READ, _STATUS = int(Command.READ), int(Command.BLOCK_STATUS)
_NONE, _DATA, _HOLE_KIND = int(ReplyType.NONE), int(ReplyType.OFFSET_DATA), int(ReplyType.OFFSET_HOLE)
_MAGIC = struct.Struct(">I")
_OFFSET = struct.Struct(">Q")
_HOLE = struct.Struct(">QI")
_ERROR = struct.Struct(">IH")
_FIRST_ERROR_TYPE = 1 << 15


class ReplyReader:
    """Receives from a socket. One thread at a time uses it."""

    def __init__(self, sock: socket.socket, agreed: Agreed) -> None:
        self._receive_into = sock.recv_into
        self._structured, self._extended = agreed.structured, agreed.extended
        self._context = agreed.contexts.get("base:allocation")
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0

    @property
    def has_more(self) -> bool:
        """Whether something was received that was not taken yet."""
        return self._start != self._end

    def receive(self, pending: Mapping[int, Request]) -> tuple[int, Request] | None:
        """Take one message; return the cookie and the request whose reply is now complete, if it is.

        Waits for the whole message. Raises OSError, NbdError.
        """
        if self._end - self._start < SIMPLE_REPLY.size:
            self._fill(SIMPLE_REPLY.size)
        (magic,) = _MAGIC.unpack_from(self._buffer, self._start)
        if magic == STRUCTURED_REPLY_MAGIC and self._structured and not self._extended:
            _, flags, kind, cookie, length = CHUNK.unpack(self._take(CHUNK.size))
            request = pending.get(cookie)
        elif magic == EXTENDED_REPLY_MAGIC and self._extended:
            _, flags, kind, cookie, asked, length = EXTENDED_CHUNK.unpack(self._take(EXTENDED_CHUNK.size))
            request = pending.get(cookie)
            if request is not None and request.offset != asked:
                raise wrong("a chunk with the offset of another request")
        elif magic == SIMPLE_REPLY_MAGIC and not self._extended:
            return self._take_simple(pending)
        else:
            raise wrong("a message that is no reply")
        if request is None or request.chunks >= MAX_CHUNKS:
            raise wrong("a chunk of no request, or too many of them")
        self._take_chunk(request, kind, length)
        request.chunks += 1
        if not flags & REPLY_FLAG_DONE:
            return None
        request.check()
        return cookie, request

    def _take_simple(self, pending: Mapping[int, Request]) -> tuple[int, Request]:
        _, error, cookie = SIMPLE_REPLY.unpack(self._take(SIMPLE_REPLY.size))
        request = pending.get(cookie)
        if request is None or (self._structured and request.command == _READ):
            raise wrong("a reply to no request")
        if request.view is not None and not error:
            self._take_into(request.view)
        request.error = error
        return cookie, request

    def _take_chunk(self, request: Request, kind: int, length: int) -> None:
        if kind == _DATA and request.view is not None and length > _OFFSET.size:
            (start,) = _OFFSET.unpack(self._take(_OFFSET.size))
            self._take_into(request.part(start, length - _OFFSET.size))
        elif kind == _NONE and not length:
            return
        elif kind == _HOLE_KIND and request.view is not None and length == _HOLE.size:
            part = request.part(*_HOLE.unpack(self._take(_HOLE.size)))
            part[:] = bytes(len(part))
        elif kind == self._status_kind and request.command == _STATUS:
            self._take_extents(request, length)
        elif kind & _FIRST_ERROR_TYPE:
            self._take_error(request, kind, length)
        else:
            raise wrong(f"a chunk of type {kind} and {length} bytes")

    @property
    def _status_kind(self) -> int:
        return ReplyType.BLOCK_STATUS_EXT if self._extended else ReplyType.BLOCK_STATUS

    def _take_extents(self, request: Request, size: int) -> None:
        head, each = (8, ">QQ") if self._extended else (4, ">II")
        count, rest = divmod(size - head, struct.calcsize(each))
        if rest or not 0 < count <= MAX_EXTENTS or request.extents:
            raise wrong(f"{size} bytes in reply to BLOCK_STATUS")
        payload = self._take_long(size)
        left = request.length
        if int.from_bytes(payload[:4], "big") != self._context:
            raise wrong("the status of an unknown context")
        if self._extended and int.from_bytes(payload[4:8], "big") != count:
            raise wrong("another number of extents than it says")
        for span, status in struct.iter_unpack(each, payload[head:]):
            if not span or not left:  # only the last one may go beyond what was asked
                raise wrong("extents that are empty or go too far")
            request.extents.append((min(span, left), status))
            left -= min(span, left)

    def _take_error(self, request: Request, kind: int, length: int) -> None:
        if not _ERROR.size <= length <= _ERROR.size + MAX_STRING + _OFFSET.size:
            raise wrong(f"a chunk of type {kind} and {length} bytes")
        payload = bytes(self._take(length))
        error, text_length = _ERROR.unpack_from(payload)
        if _ERROR.size + text_length > length:
            raise wrong("an error whose text is longer than its chunk")
        if not request.error:
            request.error = error or Error.EIO
            request.text = one_line(payload[_ERROR.size : _ERROR.size + text_length].decode(errors="replace"))

    # Bytes

    def _take(self, length: int) -> memoryview:
        """Return so many bytes, at most the buffer's, valid until the next call."""
        if self._end - self._start < length:
            self._fill(length)
        start = self._start
        self._start = start + length
        return self._buffer[start : start + length]

    def _fill(self, wanted: int) -> None:
        """Receive until so many bytes are in the buffer."""
        start, end = self._start, self._end
        if start == end:
            self._start = start = self._end = end = 0
        elif start + wanted > _BUFFER or end == _BUFFER:
            self._buffer[: end - start] = bytes(self._buffer[start:end])
            self._start, self._end = start, end = 0, end - start
        while end - start < wanted:
            count = self._receive_into(self._buffer[end:])
            if not count:
                raise _closed()
            self._end = end = end + count

    def _take_long(self, length: int) -> bytes:
        if length <= _DIRECT:
            return bytes(self._take(length))
        data = bytearray(length)
        self._take_into(memoryview(data))
        return bytes(data)

    def _take_into(self, view: memoryview) -> None:
        length = len(view)
        if length - (self._end - self._start) < _DIRECT and length <= _BUFFER:
            view[:] = self._take(length)
            return
        filled = min(length, self._end - self._start)
        view[:filled] = self._take(filled)
        while filled < length:
            count = self._receive_into(view[filled:])
            if not count:
                raise _closed()
            filled += count


def _closed() -> NbdError:
    return NbdError("the NBD server closed the connection")
