"""What passes between the two sides after the migration: requests of the source's clients, and the replies.

After the command FORWARD the connection carries messages in both directions. A message is a header of 24
bytes, and if ``size`` is not 0 a body of so many bytes and its checksum::

    checksum:u64 kind:u8 0:u24 number:u32 size:u32 stamp:u32
    body checksum:u64

The body of REQUESTS is ``number`` records, and then the data of its writes in their order; that of REPLIES
``number`` records and the data of its reads::

    operation:u8 flags:u8 drive:u16 cookie:u64 offset:u64 length:u64
    errno:u16 cookie:u64 size:u32

All integers are big-endian. The checksums are XXH3 64, the first one over the rest of the header: so nothing
is waited for that a damaged header announces. ``stamp`` is the sender's clock in milliseconds. Pure.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from qmon.block.node import Buffer, Extent
from qmon.block.node import Kind as ExtentKind
from qmon.errors import QmonError

MAX_LENGTH = 1 << 20
"""The most bytes of data that a message carries."""

MAX_REQUESTS, MAX_BYTES = 512, 16 << 20
"""The most requests that are on their way at once, and the most bytes that they and their replies carry."""

MAX_DRIVES = 4096

MAX_EXTENTS = 4096
"""The most extents of one reply; the source asks again for the rest."""

REQUEST = struct.Struct(">BBHQQQ")
"""Operation, flags, the drive's number, cookie, offset, length."""
REPLY = struct.Struct(">HQI")
"""Errno or 0, cookie, the bytes of data that belong to it."""

MAX_BODY = MAX_LENGTH + MAX_REQUESTS * REQUEST.size

HEADER = struct.Struct(">QB3xIII")
_REST = struct.Struct(">B3xIII")
_CHECKSUM = struct.Struct(">Q")
_EXTENT = struct.Struct(">QB")

BUFFER_SIZE = MAX_LENGTH + (512 << 10)
"""Bytes of a reader's buffer: more than the largest message."""

_LONG = 64 << 10
"""A longer body is not copied to be sent, and nothing behind it is received with it: that would be moved."""

_KINDS = {ExtentKind.DATA: 0, ExtentKind.ZERO: 1}
_EXTENT_KINDS = {number: kind for kind, number in _KINDS.items()}
_digest = xxhash.xxh3_64_intdigest


class Operation(enum.IntEnum):
    """What a request asks for."""

    READ = 16
    WRITE = 17
    ZERO = 18
    DISCARD = 19
    FLUSH = 20
    PREFETCH = 21
    EXTENTS = 22


class Flag(enum.IntFlag):
    """How a request is to be done."""

    UNMAP = 1
    """ZERO: the range's storage may be freed."""


class Kind(enum.IntEnum):
    """The kinds of messages."""

    OPEN = 1
    """The first message: the drives by number, in JSON. ``number`` clients use them."""
    CLIENTS = 2
    """``number`` clients use the source's exports now."""
    PING = 3
    """The other side answers PONG at once."""
    PONG = 4
    """The answer to PING."""
    REPLIES = 5
    """Answers to requests, in any order."""
    REQUESTS = 6
    """Requests of clients."""


class ForwardError(QmonError):
    """What the other side sent is not valid."""


class Message(NamedTuple):
    """One message. ``body`` is valid until the next call of ``Messages.room``."""

    kind: int
    number: int
    stamp: int
    body: memoryview

    def records(self, layout: struct.Struct) -> tuple[Iterator[tuple[int, ...]], memoryview]:
        """Return the records, and the data behind them. Raises ForwardError."""
        end = self.number * layout.size
        if not 0 < self.number <= MAX_REQUESTS or end > len(self.body):
            raise ForwardError(f"a message of {len(self.body)} bytes with {self.number} records")
        return layout.iter_unpack(self.body[:end]), self.body[end:]


def pack(kind: int, body: Sequence[Buffer] = (), *, number: int = 0, stamp: int = 0) -> list[Buffer]:
    """Return a message in pieces, which are to be sent one after another. ``body`` is not copied if long."""
    size = sum(map(len, body))
    rest = _REST.pack(kind, number, size, stamp)
    header = _CHECKSUM.pack(_digest(rest)) + rest
    if not size:
        return [header]
    if size <= _LONG:
        short = b"".join(body)
        return [b"".join((header, short, _CHECKSUM.pack(_digest(short))))]
    check = xxhash.xxh3_64()
    for piece in body:
        check.update(piece)
    return [header, *body, _CHECKSUM.pack(check.intdigest())]


class Messages:
    """Splits received bytes into messages; keeps at most one that is incomplete.

    Fill ``room()``, report the number of bytes with ``filled``, then take all ``items()``.
    """

    def __init__(self, begun: Buffer = b"") -> None:
        """``begun`` are bytes that were received before."""
        self._buffer = memoryview(bytearray(BUFFER_SIZE))
        self._start, self._end = 0, len(begun)
        self._wanted = HEADER.size
        """Bytes of the message that is incomplete, as far as they are known."""
        self._buffer[: len(begun)] = begun

    def room(self) -> memoryview:
        """Return where to put the next bytes; never empty."""
        start, end = self._start, self._end
        if start == end:
            self._start = self._end = 0
            return self._buffer
        if start and start + max(self._wanted, _LONG) > BUFFER_SIZE:
            self._buffer[: end - start] = self._buffer[start:end]
            self._start, self._end = start, end = 0, end - start
        return self._buffer[end : start + self._wanted] if self._wanted > _LONG else self._buffer[end:]

    def filled(self, count: int) -> None:
        """Report that ``count`` bytes were put into the room."""
        self._end += count

    def items(self) -> Iterator[Message]:
        """Yield each complete message. Raises ForwardError; after that the connection can't be used."""
        buffer, header = self._buffer, HEADER.size
        while self._end - self._start >= header:
            start = self._start
            checksum, kind, number, size, stamp = HEADER.unpack_from(buffer, start)
            begin = start + header
            if _digest(buffer[start + _CHECKSUM.size : begin]) != checksum:
                raise ForwardError("checksum mismatch")
            if size > MAX_BODY:
                raise ForwardError(f"a message of {size} bytes, at most {MAX_BODY} are allowed")
            if not size:
                self._start = begin
                yield Message(kind, number, stamp, buffer[:0])
                continue
            end = begin + size
            self._wanted = header + size + _CHECKSUM.size
            if start + self._wanted > self._end:
                return
            body = buffer[begin:end]
            if _digest(body) != _CHECKSUM.unpack_from(buffer, end)[0]:
                raise ForwardError("checksum mismatch")
            self._start = end + _CHECKSUM.size
            yield Message(kind, number, stamp, body)
        self._wanted = header


@dataclass(frozen=True, slots=True)
class OpenedDrive:
    """A drive whose requests are forwarded: its id, and its size in bytes as the clients know it."""

    id: str
    size: int


def opening(drives: Iterable[OpenedDrive]) -> bytes:
    """Return the body of OPEN; requests name a drive by its place."""
    return json.dumps([{"id": drive.id, "size": drive.size} for drive in drives]).encode()


def read_opening(body: Buffer) -> list[OpenedDrive]:
    """Read the body of OPEN. Raises ForwardError."""
    try:
        found = [OpenedDrive(each["id"], each["size"]) for each in json.loads(bytes(body))]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ForwardError("the list of drives can't be read") from error
    if len(found) > MAX_DRIVES or any(type(drive.size) is not int for drive in found):
        raise ForwardError("the list of drives can't be read")
    return found


def pack_extents(extents: Iterable[Extent]) -> bytes:
    """Return the data of a reply with extents, each DATA or ZERO, in order and without gaps."""
    return b"".join(_EXTENT.pack(extent.length, _KINDS[extent.kind]) for extent in extents)


def read_extents(data: Buffer, offset: int, length: int) -> list[Extent]:
    """Read such data for a range. Raises ForwardError unless they cover a part of it from its start."""
    found: list[Extent] = []
    if not data or len(data) % _EXTENT.size or len(data) > MAX_EXTENTS * _EXTENT.size:
        raise ForwardError("a list of extents can't be read")
    for span, kind in _EXTENT.iter_unpack(data):
        if not 0 < span <= length or kind not in _EXTENT_KINDS:
            raise ForwardError("a list of extents can't be read")
        found.append(Extent(offset, span, _EXTENT_KINDS[kind]))
        offset += span
        length -= span
    return found
