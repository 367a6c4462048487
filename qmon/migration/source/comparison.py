"""After a restart: compares a source's disk with the destination's by checksums, and marks what differs."""

from __future__ import annotations

from qmon.errors import QmonError
from qmon.migration.regions import REGION, checksum, held
from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.errors import LinkError


class Comparison:
    """The comparison of one drive, whose dirty map is installed. Guests may write meanwhile."""

    def __init__(self, copy: DriveCopy) -> None:
        self._copy = copy
        self._is_overlay = not copy.hears_of_zeros
        self._size = copy.drive.size
        self._position = 0
        """Bytes; what lies before is compared."""
        self._buffer = memoryview(bytearray(REGION))

    def take(self, first: int, sums: list[bytes]) -> None:
        """Compare regions with the destination's checksums. They must come in order.

        Raises LinkError if they don't, QmonError if the disk can't be read.
        """
        start, end = first * REGION, (first + len(sums)) * REGION
        if start < self._position or start >= self._size or end >= self._size + REGION:
            raise LinkError(f"the destination told checksums of drive '{self._copy.drive.id}' out of turn")
        self._pass_over(start)
        for number, theirs in enumerate(sums, first):
            self._compare(number * REGION, theirs)
        self._position = min(end, self._size)

    def finish(self) -> None:
        """The destination holds nothing behind what it has told of. Raises QmonError."""
        self._pass_over(self._size)

    def _pass_over(self, end: int) -> None:
        """Mark what is here of a range in which the destination holds nothing."""
        copy, start = self._copy, self._position
        if start < end:
            if not self._is_overlay:
                copy.known_zeros.add(start, end - start)
            with copy.naming("looking for data", start):
                for first, last in held(copy.below, start, end - start, is_overlay=self._is_overlay):
                    copy.dirty.mark(first, last - first)
        self._position = end

    def _compare(self, offset: int, theirs: bytes) -> None:
        copy, length = self._copy, min(REGION, self._size - offset)
        copy.known_zeros.forget(offset, length)
        if next(copy.dirty.clean(offset, length), None) is None:
            return  # it is sent anyway
        content = self._buffer[:length]
        with copy.naming(f"read of {length} bytes", offset):
            copy.below.read_into(offset, content)
            is_held = not self._is_overlay or any(held(copy.below, offset, length, is_overlay=True))
        if checksum(content) == theirs:
            copy.note_compared(offset, length)
        elif is_held:
            copy.dirty.mark(offset, length)
        else:
            raise QmonError(
                f"drive '{copy.drive.id}': its overlay holds nothing at byte {offset} any more:"
                " migrate_cancel on both sides, then migrate again"
            )
