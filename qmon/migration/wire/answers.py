"""The return path, from destination to source: QEMU's message frame with qmon's messages inside.

A message is type:u16 len:u16 data (QEMU, migration/migration.c: migrate_send_rp_message); qmon's data end
with XXH3 64 over all before it, type and length included. All integers are big-endian. Pure.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import xxhash

from qmon.errors import QmonError

_HEAD = struct.Struct(">HH")
_CHECKSUM = struct.Struct(">Q")
_NUMBER = struct.Struct(">Q")
_PREPARED = struct.Struct(">QQ")
_ZEROS = struct.Struct(">H")
_NEEDED = struct.Struct(">H")
_RANGE = struct.Struct(">QQ")
_IS_SAME = struct.Struct(">B")
_PLACE = struct.Struct(">H")
MAX_BODY = 0xFFFF - _CHECKSUM.size
MIN_ZERO_RANGE = 4096
"""Bytes that a range of ZEROS has at least."""
MAX_RANGES = (MAX_BODY - _ZEROS.size) // _RANGE.size


class Type(enum.IntEnum):
    """Message types; QEMU's own are below 0x100."""

    AGREED = 0x7101
    """The drives fit, their locks are taken: blocks may come."""
    ZEROS = 0x7102
    """Ranges of a drive that are known to read as zeros, in their order, drive by drive; before AGREED."""
    APPLIED = 0x7103
    """All records up to this sequence number are written."""
    FLUSHED = 0x7104
    """The FLUSH record of this sequence number is done."""
    PREPARED = 0x7105
    """Everything is here, compared and flushed: records and digest."""
    RUNNING = 0x7106
    REFUSED = 0x7107
    """It won't happen, and this side never runs; the body says why, in UTF-8."""
    UNKNOWN = 0x7108
    """The answer to GO for a migration that nothing is known of here: no answer at all."""
    BUSY = 0x7109
    """The offer, or what is to be compared, is still being looked at; now and then before the answer."""
    BACK = 0x710A
    """The answer to BACK: no PREPARED holds that came before it, and more is awaited."""
    COMPARED = 0x710B
    """The answer to a COMPARE record: whether it is one file, and the numbers of the ranges that differ."""
    NEEDED = 0x710C
    """A read-only drive that this side lacks: it is to travel in full; before its ZEROS and AGREED."""


class AnswerError(QmonError):
    """What came back is no message of the return path."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One message as it came."""

    type: Type
    body: bytes

    @property
    def number(self) -> int:
        """The sequence number of APPLIED or FLUSHED."""
        return int(_NUMBER.unpack(self.body)[0])

    @property
    def prepared(self) -> tuple[int, int]:
        """PREPARED's records and digest."""
        records, digest = _PREPARED.unpack(self.body)
        return records, digest

    @property
    def zeros(self) -> tuple[int, list[tuple[int, int]]]:
        """ZEROS' drive and its ranges as (offset, length) in bytes."""
        (drive,) = _ZEROS.unpack_from(self.body)
        return drive, [(offset, length) for offset, length in _RANGE.iter_unpack(self.body[_ZEROS.size :])]

    @property
    def compared(self) -> tuple[bool, list[int]]:
        """COMPARED's yes or no, and its numbers, the largest last."""
        numbers = [number for (number,) in _PLACE.iter_unpack(self.body[_IS_SAME.size :])]
        return self.body[0] == 1, sorted(set(numbers))

    @property
    def needed(self) -> int:
        """NEEDED's drive."""
        return int(_NEEDED.unpack(self.body)[0])

    @property
    def text(self) -> str:
        """REFUSED's reason."""
        return self.body.decode(errors="replace")


_SIZES = {
    Type.AGREED: 0,
    Type.APPLIED: _NUMBER.size,
    Type.FLUSHED: _NUMBER.size,
    Type.PREPARED: _PREPARED.size,
    Type.RUNNING: 0,
    Type.UNKNOWN: 0,
    Type.BUSY: 0,
    Type.BACK: 0,
    Type.NEEDED: _NEEDED.size,
}


_LISTS = {Type.ZEROS: (_ZEROS.size, _RANGE.size), Type.COMPARED: (_IS_SAME.size, _PLACE.size)}
"""Of messages with a list at their end: the sizes of what is before it, and of each item."""


def encode(kind: Type, body: bytes = b"") -> bytes:
    """A whole message; ``body`` is at most MAX_BODY bytes."""
    head = _HEAD.pack(kind, len(body) + _CHECKSUM.size) + body
    return head + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(head))


def applied(sequence: int) -> bytes:
    """An APPLIED message."""
    return encode(Type.APPLIED, _NUMBER.pack(sequence))


def flushed(sequence: int) -> bytes:
    """A FLUSHED message."""
    return encode(Type.FLUSHED, _NUMBER.pack(sequence))


def prepared(records: int, digest: int) -> bytes:
    """A PREPARED message."""
    return encode(Type.PREPARED, _PREPARED.pack(records, digest))


def refused(why: str) -> bytes:
    """A REFUSED message."""
    return encode(Type.REFUSED, why.encode(errors="backslashreplace")[:4096])  # a file's name may be no UTF-8


def compared(is_same: bool, differing: list[int]) -> bytes:
    """A COMPARED message; there are at most some thousand numbers."""
    return encode(Type.COMPARED, _IS_SAME.pack(is_same) + b"".join(_PLACE.pack(each) for each in differing))


def needed(drive: int) -> bytes:
    """A NEEDED message."""
    return encode(Type.NEEDED, _NEEDED.pack(drive))


def zeros(drive: int, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """ZEROS messages for any number of ranges, given as (offset, length) in bytes."""
    left = iter(ranges)
    while packed := b"".join(_RANGE.pack(*item) for item in islice(left, MAX_RANGES)):
        yield encode(Type.ZEROS, _ZEROS.pack(drive) + packed)


class AnswerReader:
    """Takes bytes in pieces of any size and yields the messages in them; holds at most one incomplete one."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[Answer]:
        """Yield each message that is complete. Raises AnswerError, after which the path is of no use."""
        self._pending += data
        position = 0
        try:
            while len(self._pending) - position >= _HEAD.size:
                number, length = _HEAD.unpack_from(self._pending, position)
                end = position + _HEAD.size + length
                self._check_length(number, length - _CHECKSUM.size)
                if len(self._pending) < end:
                    break
                yield self._decode(Type(number), bytes(self._pending[position:end]))
                position = end
        finally:
            del self._pending[:position]

    @staticmethod
    def _check_length(number: int, length: int) -> None:
        """Before the rest has come: for a length that is wrong it might never do so."""
        if number not in Type.__members__.values() or length < 0:
            raise AnswerError(f"the destination's answer is not valid: unknown type {number:#06x}")
        kind = Type(number)
        right = True
        if kind in _LISTS:
            head, each = _LISTS[kind]
            right = length >= head and (length - head) % each == 0
        if not right or length != _SIZES.get(kind, length):
            raise AnswerError(f"the destination's answer is not valid: {kind.name} of {length} bytes")

    @staticmethod
    def _decode(kind: Type, message: bytes) -> Answer:
        signed, checksum = message[: -_CHECKSUM.size], message[-_CHECKSUM.size :]
        if _CHECKSUM.pack(xxhash.xxh3_64_intdigest(signed)) != checksum:
            raise AnswerError("the destination's answer is not valid: checksum mismatch")
        return Answer(kind, signed[_HEAD.size :])
