"""The return path, from destination to source: QEMU's message frame with qmon's messages inside.

A message is type:u16 len:u16 data (QEMU, migration/migration.c: migrate_send_rp_message). qmon's data end
with a checksum: XXH3 64 over the message up to there. All integers are big-endian. Pure.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import xxhash

from qmon.errors import QmonError

_HEAD = struct.Struct(">HH")
_CHECKSUM = struct.Struct(">Q")
_NUMBER = struct.Struct(">Q")
_PREPARED = struct.Struct(">QQ")
_ZEROS = struct.Struct(">H")
_NEEDED = struct.Struct(">H")
_RANGE = struct.Struct(">QQ")
_SUMS = struct.Struct(">HQ")
_SUM = struct.Struct(">16s")
_IS_SAME = struct.Struct(">B")
_PLACE = struct.Struct(">H")
MAX_BODY = 0xFFFF - _CHECKSUM.size
MIN_ZERO_RANGE = 4096
"""The smallest range in ZEROS, in bytes."""
MAX_RANGES = (MAX_BODY - _ZEROS.size) // _RANGE.size


class Type(enum.IntEnum):
    """Message types; QEMU's own are below 0x100."""

    AGREED = 0x7101
    """The drives fit, and their locks are taken: the source may send blocks.

    Body: in JSON, what the destination agrees to of what the offer has named; empty if that is nothing.
    """
    ZEROS = 0x7102
    """Ranges of a drive that are known to read as zeros, ordered, drive by drive. Sent before AGREED."""
    APPLIED = 0x7103
    """Body: a sequence number. All records up to it are written."""
    FLUSHED = 0x7104
    """Body: a FLUSH record's sequence number. The flush is done."""
    PREPARED = 0x7105
    """Everything has arrived, is compared and flushed. Body: the number and the digest of the records."""
    RUNNING = 0x7106
    """This side runs: the answer to GO. Body: empty, or one byte if it takes forwarded requests."""
    REFUSED = 0x7107
    """The migration is refused, and this side will never run with it. Body: the reason in UTF-8.

    It ends a source's doubt, so it is sent only about a migration that this connection has named.
    """
    UNKNOWN = 0x7108
    """The answer to GO for a migration that is not known here. It does not say whether this side ran."""
    BUSY = 0x7109
    """The offer or a comparison is still being processed. Sent now and then before the answer."""
    BACK = 0x710A
    """The answer to a BACK record: earlier PREPARED answers are withdrawn, and more records are expected."""
    COMPARED = 0x710B
    """The answer to a COMPARE record: whether the files are the same, and the numbers of differing ranges."""
    NEEDED = 0x710C
    """A read-only drive that is empty here: the source copies all of it. Sent before its ZEROS and AGREED."""
    REPORT = 0x710D
    """The answer to a TRIAL record. Body: a report in JSON (``wire/report.py``)."""
    DISMISSED = 0x710E
    """The connection is closed: what it sent can't be read, or was not accepted. Body: the reason in UTF-8.

    It says nothing about a migration that another connection has brought.
    """

    SUMS = 0x710F
    """Checksums of regions of a drive (``qmon.migration.regions``), ordered. Sent at a resume only."""


class AnswerError(QmonError):
    """The destination has sent an invalid message."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One message; a property is valid only for the types that it names."""

    type: Type
    body: bytes

    def check_agreed(self) -> None:
        """Raises AnswerError if what AGREED says can't be read."""
        _ = self.agreed

    @property
    def agreed(self) -> dict[str, Any]:
        """What AGREED says in JSON. Raises AnswerError."""
        try:
            fields = json.loads(self.body) if self.body else {}
        except (ValueError, RecursionError) as error:
            raise AnswerError("the destination's answer is not valid: AGREED can't be read") from error
        if not isinstance(fields, dict):
            raise AnswerError("the destination's answer is not valid: AGREED can't be read")
        return fields

    @property
    def number(self) -> int:
        """The sequence number of APPLIED or FLUSHED."""
        return int(_NUMBER.unpack(self.body)[0])

    @property
    def prepared(self) -> tuple[int, int]:
        """PREPARED's number of records, and their digest."""
        records, digest = _PREPARED.unpack(self.body)
        return records, digest

    @property
    def zeros(self) -> tuple[int, list[tuple[int, int]]]:
        """ZEROS' drive number, and its ranges as (offset, length) in bytes."""
        (drive,) = _ZEROS.unpack_from(self.body)
        return drive, [(offset, length) for offset, length in _RANGE.iter_unpack(self.body[_ZEROS.size :])]

    @property
    def sums(self) -> tuple[int, int, list[bytes]]:
        """SUMS' drive number, the number of the first region, and the checksums."""
        drive, first = _SUMS.unpack_from(self.body)
        return drive, first, [each for (each,) in _SUM.iter_unpack(self.body[_SUMS.size :])]

    @property
    def compared(self) -> tuple[bool, list[int]]:
        """COMPARED: whether the files are the same, and the numbers of the ranges that differ, sorted."""
        numbers = [number for (number,) in _PLACE.iter_unpack(self.body[_IS_SAME.size :])]
        return self.body[0] == 1, sorted(set(numbers))

    @property
    def needed(self) -> int:
        """NEEDED's drive number."""
        return int(_NEEDED.unpack(self.body)[0])

    @property
    def takes_requests(self) -> bool:
        """RUNNING: whether the destination takes forwarded requests."""
        return self.type is Type.RUNNING and bool(self.body)

    @property
    def text(self) -> str:
        """The reason of REFUSED or DISMISSED."""
        return self.body.decode(errors="replace")


_SIZES = {
    Type.APPLIED: _NUMBER.size,
    Type.FLUSHED: _NUMBER.size,
    Type.PREPARED: _PREPARED.size,
    Type.UNKNOWN: 0,
    Type.BUSY: 0,
    Type.BACK: 0,
    Type.NEEDED: _NEEDED.size,
}


_MOST = {Type.RUNNING: 1, Type.AGREED: 4096}
"""The most bytes of messages whose bodies differ in length."""

_LISTS = {
    Type.ZEROS: (_ZEROS.size, _RANGE.size),
    Type.COMPARED: (_IS_SAME.size, _PLACE.size),
    Type.SUMS: (_SUMS.size, _SUM.size),
}
"""Messages that end with a list: the size of the part before it, and of each item."""


def encode(kind: Type, body: bytes = b"") -> bytes:
    """Return a whole message; ``body`` has at most MAX_BODY bytes."""
    head = _HEAD.pack(kind, len(body) + _CHECKSUM.size) + body
    return head + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(head))


def agreed(fields: dict[str, Any]) -> bytes:
    """Return an AGREED message."""
    return encode(Type.AGREED, json.dumps(fields).encode() if fields else b"")


def applied(sequence: int) -> bytes:
    """Return an APPLIED message."""
    return encode(Type.APPLIED, _NUMBER.pack(sequence))


def flushed(sequence: int) -> bytes:
    """Return a FLUSHED message."""
    return encode(Type.FLUSHED, _NUMBER.pack(sequence))


def prepared(records: int, digest: int) -> bytes:
    """Return a PREPARED message."""
    return encode(Type.PREPARED, _PREPARED.pack(records, digest))


def running(*, takes_requests: bool) -> bytes:
    """Return a RUNNING message."""
    return encode(Type.RUNNING, b"\1" if takes_requests else b"")


def refused(why: str) -> bytes:
    """Return a REFUSED message."""
    return encode(Type.REFUSED, _text(why))


def dismissed(why: str) -> bytes:
    """Return a DISMISSED message."""
    return encode(Type.DISMISSED, _text(why))


def _text(why: str) -> bytes:
    return why.encode(errors="backslashreplace")[:4096]  # a file name may not be UTF-8


def compared(is_same: bool, differing: list[int]) -> bytes:
    """Return a COMPARED message; ``differing`` has at most some thousand numbers of ranges."""
    return encode(Type.COMPARED, _IS_SAME.pack(is_same) + b"".join(_PLACE.pack(each) for each in differing))


def sums(drive: int, first: int, checksums: list[bytes]) -> bytes:
    """Return a SUMS message of at most some thousand checksums."""
    return encode(Type.SUMS, _SUMS.pack(drive, first) + b"".join(checksums))


def needed(drive: int) -> bytes:
    """Return a NEEDED message."""
    return encode(Type.NEEDED, _NEEDED.pack(drive))


def zeros(drive: int, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Yield ZEROS messages for any number of ranges, given as (offset, length) in bytes."""
    left = iter(ranges)
    while packed := b"".join(_RANGE.pack(*item) for item in islice(left, MAX_RANGES)):
        yield encode(Type.ZEROS, _ZEROS.pack(drive) + packed)


class AnswerReader:
    """Splits bytes that arrive in pieces of any size into messages; keeps at most one incomplete message."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[Answer]:
        """Yield each complete message. Raises AnswerError; after that the connection can't be used."""
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
        """Check the type and length before the rest arrives: with a wrong length it might never arrive."""
        if number not in Type.__members__.values() or length < 0:
            raise AnswerError(f"the destination's answer is not valid: unknown type {number:#06x}")
        kind = Type(number)
        right = length <= _MOST.get(kind, MAX_BODY)
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
        answer = Answer(kind, signed[_HEAD.size :])
        if kind is Type.AGREED:
            answer.check_agreed()
        return answer
