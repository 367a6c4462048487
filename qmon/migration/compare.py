"""Finds out whether both sides have the same disk: the same file on one host, or equal samples.

The source sends COMPARE records, one per drive: a token that identifies the files of its image, and checksums
of some ranges. The destination opens its image again, read-only and without a lock, and answers COMPARED:
whether the files are the same, and if not, which ranges differ.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import xxhash

from qmon.block.extents import visible_extents
from qmon.block.image import FileIdentity, forget_cached, identify
from qmon.block.node import Kind, Node
from qmon.errors import QmonError
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.stream import StreamError

Range = tuple[int, int]
"""A range of a disk: (offset, length) in bytes."""

MAX_RANGES = 1024
"""Ranges in one record."""

MAX_LENGTH = 64 << 10
"""Bytes of one range. It limits what a destination reads for a record, and the memory for it."""

SECTOR = 512

SEARCH_LIMIT = 64 << 20
"""Bytes after a random place in which data are searched for: an image may be nearly empty."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_TOKEN = 32
_RANGE = struct.Struct(">QI16s")

Pulse = Callable[[], None]
"""Called at least once per range read; an exception from it ends the work."""


@dataclass(frozen=True, slots=True)
class Question:
    """A COMPARE record's payload: a token that identifies the drive's files, and checksums of ranges."""

    token: bytes
    ranges: tuple[Range, ...] = ()
    sums: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """Return the record's payload."""
        packed = (_RANGE.pack(*where, each) for where, each in zip(self.ranges, self.sums, strict=True))
        return self.token + b"".join(packed)

    @classmethod
    def decode(cls, payload: bytes, size: int) -> Question:
        """Read the payload about a disk of ``size`` bytes. Raises StreamError."""
        count, rest = divmod(len(payload) - _TOKEN, _RANGE.size)
        if count < 0 or rest or count > MAX_RANGES:
            raise StreamError(f"not a valid migration stream: a COMPARE of {len(payload)} bytes")
        ranges, sums = [], []
        for offset, length, each in _RANGE.iter_unpack(payload[_TOKEN:]):
            if not 0 < length <= MAX_LENGTH or offset + length > size:
                raise StreamError(
                    f"not a valid migration stream: a COMPARE of {length} bytes at {offset}, but the disk has"
                    f" {size} bytes"
                )
            ranges.append((offset, length))
            sums.append(each)
        return cls(payload[:_TOKEN], tuple(ranges), tuple(sums))


def token(files: Sequence[FileIdentity]) -> bytes:
    """Return a token that is equal only for the same files on the same host since its last boot."""
    try:
        host = BOOT_ID.read_bytes()
    except OSError:
        host = b""
    if not host or not files:
        return os.urandom(_TOKEN)  # equal to no other token: then the contents are compared
    return hashlib.sha256(host + repr(tuple(files)).encode()).digest()


def checksums(node: Node, ranges: Sequence[Range], pulse: Pulse) -> Iterator[bytes]:
    """Yield the checksum of each range. Raises OSError."""
    buffer = memoryview(bytearray(MAX_LENGTH))
    for offset, length in ranges:
        pulse()
        piece = buffer[:length]
        node.read_into(offset, piece)
        yield xxhash.xxh3_128_digest(piece)


@dataclass(frozen=True, slots=True)
class Seen:
    """The result of a comparison: the destination's files, and whether the source has the same files."""

    files: tuple[FileIdentity, ...]
    is_same: bool


def answer_question(drive: MigratingDrive, size: int, payload: bytes, pulse: Pulse) -> tuple[Seen, list[int]]:
    """Compare a drive's image with the source's question; return the result and the ranges that differ.

    The ranges are given by their numbers; there are none if both sides have the same files. ``size`` is the
    agreed one. Raises OSError, StreamError for an invalid question, QmonError if the image has another size.
    """
    question = Question.decode(payload, size)
    node = drive.open_to_compare()
    try:
        if node.size != size:
            raise QmonError(
                f"the size of drive '{drive.id}' has changed at the destination from {size} to"
                f" {node.size} bytes"
            )
        files = identify(node)
        if token(files) == question.token:
            return Seen(files, is_same=True), []
        found = checksums(node, question.ranges, pulse)
        pairs = enumerate(zip(found, question.sums, strict=True))
        return Seen(files, is_same=False), [index for index, (ours, theirs) in pairs if ours != theirs]
    finally:
        node.close()


def open_as_seen(drive: MigratingDrive, seen: Seen) -> None:
    """Activate a drive that was compared. Raises OSError, QmonError if its image was replaced since."""
    if not seen.is_same:  # this host may have cached the image as it was before the source's last writes
        node = drive.open_to_compare()
        try:
            forget_cached(node)
        finally:
            node.close()
    drive.activate()
    if drive.identify() != seen.files:
        raise QmonError(f"drive '{drive.id}': its image was replaced after it was compared")


def all_of(size: int) -> list[Range]:
    """Return ranges that cover a whole disk."""
    return [(start, min(MAX_LENGTH, size - start)) for start in range(0, size, MAX_LENGTH)]


def places(node: Node, count: int, chance: random.Random) -> list[Range]:
    """Return some ranges of a disk: the first, the last, and random others, most of them with data.

    The first range with data is among them, so an empty disk always differs from one that is not empty.
    Raises OSError.
    """
    last = (node.size - 1) // MAX_LENGTH
    chosen = {0, last} if node.size else set()
    data = (each.offset for each in visible_extents(node, 0, node.size) if each.kind is Kind.DATA)
    chosen.update(offset // MAX_LENGTH for offset in islice(data, 1))
    for _ in range(min(count, last) - 3):
        block = chance.randrange(last)
        search = min(SEARCH_LIMIT, node.size - block * MAX_LENGTH)
        extents = visible_extents(node, block * MAX_LENGTH, search)
        chosen.add(next((each.offset // MAX_LENGTH for each in extents if each.kind is Kind.DATA), block))
    return [(block * MAX_LENGTH, min(MAX_LENGTH, node.size - block * MAX_LENGTH)) for block in sorted(chosen)]


def in_sectors(where: Range) -> list[Range]:
    """Split a range into sectors, the smallest parts that a guest can write."""
    offset, length = where
    return [(start, min(SECTOR, offset + length - start)) for start in range(offset, offset + length, SECTOR)]
