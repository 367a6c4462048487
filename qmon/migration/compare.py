"""Whether two sides have the same disk: one file of one running kernel, or places that hold the same.

The source asks by COMPARE records, each of one drive: what tells the files of its image from all others, and
checksums of some ranges. The destination opens its image anew, without a lock and for reading alone, and
answers COMPARED: whether they are the same files, and else which of the ranges differ.
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
"""Of a disk, as (offset, length) in bytes."""

MAX_RANGES = 1024
"""In one record."""

MAX_LENGTH = 64 << 10
"""Of one range: what a destination is asked to read is bounded by it, and what is held in memory."""

SECTOR = 512

SEARCH_LIMIT = 64 << 20
"""How far from a place that was drawn data are looked for: an image may be nearly empty."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_TOKEN = 32
_RANGE = struct.Struct(">QI16s")

Pulse = Callable[[], None]
"""Called at least once for each range that is read; what it raises ends the work."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a COMPARE record asks of a drive: ``token`` is of its files, ``sums`` of the ranges in turn."""

    token: bytes
    ranges: tuple[Range, ...] = ()
    sums: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The record's payload."""
        packed = (_RANGE.pack(*where, each) for where, each in zip(self.ranges, self.sums, strict=True))
        return self.token + b"".join(packed)

    @classmethod
    def decode(cls, payload: bytes, size: int) -> Question:
        """Read a payload that is about a disk of ``size`` bytes. Raises StreamError."""
        count, rest = divmod(len(payload) - _TOKEN, _RANGE.size)
        if count < 0 or rest or count > MAX_RANGES:
            raise StreamError(f"not a valid migration stream: a COMPARE of {len(payload)} bytes")
        ranges, sums = [], []
        for offset, length, each in _RANGE.iter_unpack(payload[_TOKEN:]):
            if not 0 < length <= MAX_LENGTH or offset + length > size:
                raise StreamError(
                    f"not a valid migration stream: {length} bytes at {offset} can't be compared, of a disk"
                    f" of {size} bytes"
                )
            ranges.append((offset, length))
            sums.append(each)
        return cls(payload[:_TOKEN], tuple(ranges), tuple(sums))


def token(files: Sequence[FileIdentity]) -> bytes:
    """What is equal for the same files on one running kernel, and for nothing else."""
    try:
        host = BOOT_ID.read_bytes()
    except OSError:
        host = b""
    if not host or not files:
        return os.urandom(_TOKEN)  # equal to nothing: then content decides
    return hashlib.sha256(host + repr(tuple(files)).encode()).digest()


def checksums(node: Node, ranges: Sequence[Range], pulse: Pulse) -> Iterator[bytes]:
    """Yield a checksum of what each range holds. Raises OSError."""
    buffer = memoryview(bytearray(MAX_LENGTH))
    for offset, length in ranges:
        pulse()
        piece = buffer[:length]
        node.read_into(offset, piece)
        yield xxhash.xxh3_128_digest(piece)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a destination found: the files of its image, and whether they are the asker's very own."""

    files: tuple[FileIdentity, ...]
    is_same: bool


def answer_question(drive: MigratingDrive, payload: bytes, pulse: Pulse) -> tuple[Seen, list[int]]:
    """Look at what a drive's image is now, and which ranges differ where it is not the asker's file.

    Raises OSError, StreamError for what is no question, QmonError for an image of another size.
    """
    question = Question.decode(payload, drive.size)
    node = drive.open_to_compare()
    try:
        if node.size != drive.size:
            raise QmonError(
                f"drive '{drive.id}' has {node.size} bytes at the destination now, and had {drive.size}"
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
    """Activate a drive that was compared. Raises OSError, QmonError for another image in its place."""
    if not seen.is_same:  # what this host has cached of it may be what it was before the source's last writes
        node = drive.open_to_compare()
        try:
            forget_cached(node)
        finally:
            node.close()
    drive.activate()
    if drive.identify() != seen.files:
        raise QmonError(f"drive '{drive.id}': its image was replaced after it was compared")


def all_of(size: int) -> list[Range]:
    """A whole disk."""
    return [(start, min(MAX_LENGTH, size - start)) for start in range(0, size, MAX_LENGTH)]


def places(node: Node, count: int, chance: random.Random) -> list[Range]:
    """Some ranges of a disk: the first, the last, and others, most of them with data. Raises OSError.

    The first one with data is among them: a disk that holds anything is told from one that holds nothing.
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
    """A range in the smallest parts that a guest can write."""
    offset, length = where
    return [(start, min(SECTOR, offset + length - start)) for start in range(offset, offset + length, SECTOR)]
