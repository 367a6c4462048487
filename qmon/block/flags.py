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
        self.segments: list[bytes | bytearray] = [_ALL[value]] * -(-count // SEGMENT)
        """Flag ``i`` is the byte ``i % SEGMENT`` of segment ``i // SEGMENT``; read only, for speed."""
        if value and count % SEGMENT:
            self.segments[-1] = _ALL[1][: count % SEGMENT].ljust(SEGMENT, b"\0")

    def raise_one(self, index: int) -> bool:
        """Set a flag to 1; return whether it was 0."""
        number, place = divmod(index, SEGMENT)
        segment = self.segments[number]
        if segment[place]:
            return False
        if isinstance(segment, bytes):
            segment = self.segments[number] = bytearray(segment)
        segment[place] = 1
        return True

    def fill(self, first: int, stop: int, value: int) -> int:
        """Set the flags ``first`` to ``stop - 1`` to ``value``; return how many have changed."""
        changed = 0
        while first < stop:
            number, start = divmod(first, SEGMENT)
            end = min(SEGMENT, start + stop - first)
            segment = self.segments[number]
            if segment is not _ALL[value]:
                changed += end - start - segment.count(value, start, end)
                if end - start == SEGMENT:
                    self.segments[number] = _ALL[value]
                else:
                    if isinstance(segment, bytes):
                        segment = self.segments[number] = bytearray(segment)
                    segment[start:end] = _ALL[value][: end - start]
            first += end - start
        return changed

    def find(self, value: int, first: int, stop: int | None = None) -> int:
        """Return the first index from ``first`` to ``stop - 1`` whose flag is ``value``, or -1."""
        stop = self.count if stop is None else stop
        if first >= stop:
            return -1
        segments, last = self.segments, (stop - 1) // SEGMENT
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
        return self.count - sum(self._zeros(number) for number in range(len(self.segments)))

    def _zeros(self, number: int) -> int:
        here = min(SEGMENT, self.count - number * SEGMENT)
        segment = self.segments[number]
        if segment is _ALL[0]:
            return here
        return segment.count(0, 0, here)

    def copy(self) -> Flags:
        """Return a copy."""
        made = Flags(0)
        made.count = self.count
        made.segments = [each if isinstance(each, bytes) else each[:] for each in self.segments]
        return made

    def resize(self, count: int) -> int:
        """Change the number of flags; new ones are 0. Return how many flags that were 1 are gone."""
        lost = self.fill(count, self.count, 0) if count < self.count else 0
        segments = -(-count // SEGMENT)
        del self.segments[segments:]
        self.segments += [_ALL[0]] * (segments - len(self.segments))
        self.count = count
        return lost

    def constant(self, first: int, stop: int) -> int | None:
        """Return the value of all flags of whole segments, ``first`` to ``stop - 1``; None if they differ.

        It may also be None for a segment whose flags became equal one by one.
        """
        values = {
            value
            for segment in self.segments[first // SEGMENT : -(-stop // SEGMENT)]
            for value in (0 if segment is _ALL[0] else 1 if segment is _ALL[1] else None,)
        }
        return values.pop() if len(values) == 1 else None

    def part(self, first: int, stop: int) -> bytes:
        """Return the flags of whole segments, one byte each; empty if none of them is 1."""
        if self.find(1, first, min(stop, self.count)) < 0:
            return b""
        return b"".join(self.segments[first // SEGMENT : -(-stop // SEGMENT)])

    def packed(self, first: int, stop: int) -> bytes:
        """Return flags as bits, of each byte the least significant first; ``first`` is a multiple of SEGMENT.

        The bits after those of ``stop - 1`` in its segment are the flags there, 0 behind the last flag.
        """
        segments = self.segments[first // SEGMENT : -(-stop // SEGMENT)]
        return b"".join(_NO_BITS if each is _ALL[0] else pack(each) for each in segments)

    def put_packed(self, first: int, data: bytes) -> int:
        """Set the flags to 1 whose bits are (as ``packed`` returns them); return how many were 0.

        Bits after the last flag are ignored.
        """
        changed, here = 0, first // SEGMENT
        for number in range(here, min(here + -(-len(data) // _PACKED), len(self.segments))):
            start = (number - here) * _PACKED
            bits = int.from_bytes(data[start : start + _PACKED], "little")
            if not bits:
                continue
            before = self.segments[number]
            if before is not _ALL[0]:
                bits |= int.from_bytes(pack(before), "little")
            segment = _unpack(bits)[: self.count - number * SEGMENT].ljust(SEGMENT, b"\0")
            changed += segment.count(1) - before.count(1)
            self.segments[number] = _ALL[1] if segment == _ALL[1] else segment
        return changed


_PACKED = SEGMENT // 8
_NO_BITS = bytes(_PACKED)
_ONES = int.from_bytes(b"\1" * _PACKED, "little")


def pack(flags: bytes | bytearray) -> bytes:
    """Return flags, one byte each, as bits: of each byte the least significant first."""
    bits = sum(int.from_bytes(flags[place::8], "little") << place for place in range(8))
    return bits.to_bytes(-(-len(flags) // 8), "little")


def _unpack(bits: int) -> bytearray:
    segment = bytearray(SEGMENT)
    for place in range(8):
        segment[place::8] = (bits >> place & _ONES).to_bytes(_PACKED, "little")
    return segment
