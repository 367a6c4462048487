"""The records that a source has written and the destination has not confirmed, with what they hold.

When the line breaks, some of them are lost. At a resume the destination says which one it has applied last,
and what those after it hold is marked dirty again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from qmon.migration.wire.chains import Before, Chains

Part = tuple[int, int, int]
"""The number of a drive, and a range of it: offset and length in bytes."""


class Unconfirmed:
    """For the migration's thread. ``applied`` returns the last record that is confirmed, -1 without one."""

    def __init__(self, applied: Callable[[], int] = lambda: -1) -> None:
        self._applied = applied
        self._noted: deque[tuple[int, Part, Before]] = deque()

    def note(self, sequence: int, drive: int, offset: int, length: int, before: Before) -> None:
        """A record of data or zeros was written; ``before`` are the regions' checksums before it."""
        self.confirm(self._applied())
        self._noted.append((sequence, (drive, offset, length), before))

    def confirm(self, sequence: int) -> None:
        """The destination has applied all records up to this one."""
        noted = self._noted
        while noted and noted[0][0] <= sequence:
            noted.popleft()

    def left(self) -> Iterator[Part]:
        """Yield what the records hold that are not confirmed."""
        return (part for _, part, _ in self._noted)

    def undo(self, chains: Chains) -> None:
        """Take what is not confirmed back from the regions' checksums: the destination lacks it."""
        for _, part, before in reversed(self._noted):
            chains.undo(*part, before)

    @property
    def size(self) -> int:
        """How many bytes the records hold that are not confirmed."""
        return sum(length for _, (_, _, length), _ in self._noted.copy())
