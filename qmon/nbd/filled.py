"""Which parts of a read's memory a server has filled."""

from __future__ import annotations

import bisect

from qmon.nbd.client_socket import NbdError


class Filled:
    """Each byte of the memory is filled exactly once, in any order."""

    def __init__(self, offset: int, view: memoryview) -> None:
        self._offset = offset
        self._view = view
        self._parts: list[tuple[int, int]] = []

    def part(self, start: int, length: int) -> memoryview:
        """Return the memory of a chunk. Raises NbdError if it was filled before or not asked for."""
        start -= self._offset
        end = start + length
        at = bisect.bisect(self._parts, (start, end))
        before = self._parts[at - 1][1] if at else 0
        after = self._parts[at][0] if at < len(self._parts) else len(self._view)
        if not length or start < before or end > after:
            raise _wrong("data that was not asked for, or data twice")
        if at and before == start:
            self._parts[at - 1] = (self._parts[at - 1][0], end)
        else:
            self._parts.insert(at, (start, end))
        return self._view[start:end]

    def check(self) -> None:
        """Raises NbdError unless all is filled."""
        if sum(end - start for start, end in self._parts) != len(self._view):
            raise _wrong("less data than was asked for")


def _wrong(what: str) -> NbdError:
    return NbdError(f"the NBD server broke the protocol: it sent {what}")
