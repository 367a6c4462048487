"""Checksums of what each region of a drive holds: at the source as last sent, at the destination as applied.

Each record changes the value of every region that it touches. If it covers the whole region, the new value
is the checksum of the record; else it is XXH3 64 of this checksum, with the value before as the seed. So the
values of both sides are equal if each region got the same records in the same order. No disk is read. Pure.
"""

from __future__ import annotations

import sys
import threading
from array import array
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeAlias

import xxhash

from qmon.migration.wire.stream import CHECKSUM, REGION

SEGMENT = 4096
"""Regions whose values are kept together; memory is used for those that are touched."""

MAX_REGIONS = 1 << 20
MAX_REGION = 16 << 20
"""A drive of more than 1 TiB has larger regions. All data of one goes through one channel (multifd)."""

Before: TypeAlias = "int | array[int]"
"""The values of the regions that a record has changed: one, or several."""

_UNTOUCHED = array("Q", bytes(8 * SEGMENT))


class DriveChains:
    """The values of one drive's regions, of ``region`` bytes each; 0 where nothing was applied."""

    def __init__(self, size: int) -> None:
        self.region = REGION
        while -(-size // self.region) > MAX_REGIONS and self.region < MAX_REGION:
            self.region *= 2
        self.chunks = 0
        """How many regions were touched."""
        self.bytes = 0
        """Bytes in the records so far."""
        self._segments: dict[int, array[int]] = {}

    def add(self, offset: int, length: int, checksum: int) -> Before:
        """Note a record of a range. Return the values before, for ``undo``."""
        self.bytes += length
        number, start = divmod(offset, self.region)
        if start + length <= self.region:
            return self._add_one(number, checksum, is_whole=length == self.region)
        end, rest = divmod(offset + length, self.region)
        before: array[int] = array("Q")
        if start:
            before.append(self._add_one(number, checksum, is_whole=False))
            number += 1
        while number < end:
            segment, place = self._segment(number)
            stop = min(SEGMENT, place + end - number)
            replaced = segment[place:stop]
            before += replaced
            self.chunks += replaced.count(0)
            segment[place:stop] = array("Q", (checksum,)) * (stop - place)
            number += stop - place
        if rest:
            before.append(self._add_one(number, checksum, is_whole=False))
        return before

    def _add_one(self, number: int, checksum: int, *, is_whole: bool) -> int:
        segment, place = self._segment(number)
        before = segment[place]
        if not before:
            self.chunks += 1
        segment[place] = checksum if is_whole else xxhash.xxh3_64_intdigest(CHECKSUM.pack(checksum), before)
        return before

    def _segment(self, number: int) -> tuple[array[int], int]:
        """Return the segment that has a region's value, and its place there."""
        key, place = divmod(number, SEGMENT)
        segment = self._segments.get(key)
        if segment is None:
            segment = self._segments[key] = _UNTOUCHED[:]
        return segment, place

    def undo(self, offset: int, length: int, before: Before) -> None:
        """Take back the last record that was added; several in the reverse order."""
        self.bytes -= length
        first = offset // self.region
        for number, value in enumerate((before,) if isinstance(before, int) else before, first):
            segment, place = self._segment(number)
            segment[place] = value
            self.chunks -= not value

    def digest(self) -> bytes:
        """Return a digest of all values."""
        state = xxhash.xxh3_64()
        for key in sorted(self._segments):
            segment = self._segments[key]
            if segment == _UNTOUCHED:  # what was there is undone
                continue
            if sys.byteorder == "big":
                segment = segment[:]
                segment.byteswap()
            state.update(CHECKSUM.pack(key))
            state.update(segment)
        return state.digest()


class Chains:
    """The regions' values of all drives of a migration that are copied, by the drive's number in the offer.

    ``sizes`` are the drives' sizes in bytes. Thread-safe.
    """

    def __init__(self, sizes: Sequence[int] = ()) -> None:
        self._drives = defaultdict(
            lambda: DriveChains(0), {number: DriveChains(size) for number, size in enumerate(sizes)}
        )
        self._lock = threading.Lock()

    def add(self, drive: int, offset: int, length: int, checksum: int) -> Before:
        """As ``DriveChains.add``."""
        with self._lock:
            return self._drives[drive].add(offset, length, checksum)

    def undo(self, drive: int, offset: int, length: int, before: Before) -> None:
        """As ``DriveChains.undo``."""
        self._drives[drive].undo(offset, length, before)

    @property
    def digest(self) -> int:
        """The digest of all values."""
        state = xxhash.xxh3_64()
        for number, drive in sorted(self._drives.items()):
            if drive.chunks:
                state.update(CHECKSUM.pack(number))
                state.update(drive.digest())
        return state.intdigest()

    @property
    def compared(self) -> tuple[int, int]:
        """What the values are about: the bytes in all records, and how many regions these touch."""
        drives = self._drives.values()
        return sum(drive.bytes for drive in drives), sum(drive.chunks for drive in drives)
