"""The queue of what waits for the running command: lines, and pasted texts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from qmon.hmp.line.transcript import does_nothing
from qmon.hmp.pasting.doctor import Pasted


class Waiting:
    """A queue of what waits for the running command: lines, and texts about which the person is asked."""

    def __init__(self) -> None:
        self._items: deque[str | Pasted] = deque()

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, items: Iterable[str | Pasted]) -> None:
        self._items.extend(items)

    def add_first(self, lines: Sequence[str]) -> None:
        """Add lines that are older than all that wait."""
        self._items.extendleft(reversed(lines))

    def next(self) -> str | Pasted:
        """Remove and return the oldest item. Raises IndexError when none waits."""
        return self._items.popleft()

    def abandon(self) -> int:
        """Drop all items; return how many of their lines were commands, not blank lines or comments."""
        lines = [
            line for item in self._items for line in (item.lines if isinstance(item, Pasted) else [item])
        ]
        self._items.clear()
        return sum(not does_nothing(line) for line in lines)


def not_run(count: int) -> str:
    """Say how many waiting lines were not run."""
    return f"{count} waiting {'line was' if count == 1 else 'lines were'} not run"
