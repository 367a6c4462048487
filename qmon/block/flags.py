"""An array of many flags, one per chunk of a disk. Long runs of equal flags take hardly any memory."""

from __future__ import annotations

from typing import Final

SEGMENT = 1 << 12
"""Flags per segment. A segment whose flags are all equal is a shared constant."""

_ALL: Final = (bytes(SEGMENT), b"\1" * SEGMENT)


class Flags:
    """``count`` flags, each 0 or 1. Not thread-safe."""

    def __init__(self, count: int, value: int = 0) -> None:
        self.count = count
        self._segments: list[bytes | bytearray] = [_ALL[value]] * -(-count // SEGMENT)
        if value and count % SEGMENT:
            self._segments[-1] = _ALL[1][: count % SEGMENT].ljust(SEGMENT, b"\0")

    def is_raised(self, index: int) -> int:
        """Return a flag."""
        return self._segments[index // SEGMENT][index % SEGMENT]

    def raise_one(self, index: int) -> bool:
        """Set a flag to 1; return whether it was 0."""
        number, place = divmod(index, SEGMENT)
        segment = self._segments[number]
        if segment[place]:
            return False
        if isinstance(segment, bytes):
            segment = self._segments[number] = bytearray(segment)
        segment[place] = 1
        return True

    def fill(self, first: int, stop: int, value: int) -> int:
        """Set the flags ``first`` to ``stop - 1`` to ``value``; return how many have changed."""
        changed = 0
        while first < stop:
            number, start = divmod(first, SEGMENT)
            end = min(SEGMENT, start + stop - first)
            segment = self._segments[number]
            if segment is not _ALL[value]:
                changed += end - start - segment.count(value, start, end)
                if end - start == SEGMENT:
                    self._segments[number] = _ALL[value]
                else:
                    if isinstance(segment, bytes):
                        segment = self._segments[number] = bytearray(segment)
                    segment[start:end] = _ALL[value][: end - start]
            first += end - start
        return changed

    def find(self, value: int, first: int, stop: int | None = None) -> int:
        """Return the first index from ``first`` to ``stop - 1`` whose flag is ``value``, or -1."""
        stop = self.count if stop is None else stop
        if first >= stop:
            return -1
        segments, last = self._segments, (stop - 1) // SEGMENT
        number, start = divmod(first, SEGMENT)
        while number <= last:
            segment = segments[number]
            if segment is not _ALL[1 - value]:
                end = stop - number * SEGMENT if number == last else SEGMENT
                place = segment.find(value, start, end)
                if place >= 0:
                    return number * SEGMENT + place
            number += 1
            start = 0
            while number <= last and segments[number] is _ALL[1 - value]:  # most segments are constants
                number += 1
        return -1

    def raised(self) -> int:
        """Return how many flags are 1."""
        return self.count - sum(self._zeros(number) for number in range(len(self._segments)))

    def _zeros(self, number: int) -> int:
        here = min(SEGMENT, self.count - number * SEGMENT)
        segment = self._segments[number]
        if segment is _ALL[0]:
            return here
        return segment.count(0, 0, here)

    def copy(self) -> Flags:
        """Return a copy."""
        made = Flags(0)
        made.count = self.count
        made._segments = [each if isinstance(each, bytes) else each[:] for each in self._segments]
        return made

    def resize(self, count: int) -> int:
        """Change the number of flags; new ones are 0. Return how many flags that were 1 are gone."""
        lost = self.fill(count, self.count, 0) if count < self.count else 0
        segments = -(-count // SEGMENT)
        del self._segments[segments:]
        self._segments += [_ALL[0]] * (segments - len(self._segments))
        self.count = count
        return lost
