"""The progress bar: one line with a bar, per cent, bytes done and total, rate and time left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from qmon.notation.units import duration, human_size

_BAR_LEAST = 10
_BAR_MOST = 40
_RATE_SECONDS = 5.0
"""The rate is an average over this time: short enough to follow a new limit, long enough to be steady."""


def bar_text(title: str, done: int, total: int, note: str, columns: int) -> str:
    """Format ``done`` of ``total`` bytes as one line of at most ``columns`` characters.

    On a narrow terminal the title is left out first, then the middle of the note, the note, and the sizes.
    """
    share = min(1.0, done / total) if total > 0 else 0.0
    percent = f"{int(share * 100):3d}%"
    sizes = f"{human_size(done)}/{human_size(total)}" if total > 0 else ""
    for fields in (
        (title, sizes, note),
        ("", sizes, note),
        ("", sizes, _shortened(note)),
        ("", sizes, ""),
        ("", "", ""),
    ):
        before = f"{fields[0]} [" if fields[0] else "["
        after = "  ".join(field for field in (f"] {percent}", *fields[1:]) if field)
        room = min(columns - len(before) - len(after), _BAR_MOST)
        if room >= _BAR_LEAST:
            filled = int(share * room)
            return f"{before}{'#' * filled}{'.' * (room - filled)}{after}"
    return percent.strip()[:columns]


def _shortened(note: str) -> str:
    """Return the first and the last clause of a note: a migration's rate and its time left."""
    clauses = note.split(", ")
    return ", ".join((clauses[0], clauses[-1])) if len(clauses) > 2 else note


def plain_text(title: str, done: int, total: int, note: str) -> str:
    """Format the same without a bar, for a terminal that can't redraw a line."""
    percent = f"{done * 100 // total if total > 0 else 0}%"
    sizes = f"{human_size(done)}/{human_size(total)}" if total > 0 else ""
    return f"{title}: " + ", ".join(field for field in (percent, sizes, note) if field)


class Pace:
    """Computes rate and time left from the progress of the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, done: int, total: int, now: float) -> str:
        """Note ``done`` of ``total`` bytes at ``now`` (monotonic, seconds); return rate and time left.

        Returns an empty string while they are not known.
        """
        while self._seen and (now - self._seen[0][0] > _RATE_SECONDS or done < self._seen[0][1]):
            self._seen.popleft()
        self._seen.append((now, done))
        since, before = self._seen[0]
        if now - since <= 0 or done <= before:
            return ""
        rate = (done - before) / (now - since)
        return f"{human_size(rate)}/s, {duration((total - done) / rate)} left"


class Bar:
    """A Progress (``qmon.hmp.person``) that keeps the values to show and calls ``changed`` on each update."""

    def __init__(self, title: str, changed: Callable[[], None], close: Callable[[Bar], None]) -> None:
        self.title = title
        self.done = 0
        self.total = 0
        self.note = ""
        self.known = False
        """Whether there has been an update."""
        self._changed = changed
        self._close = close
        self._pace = Pace()

    def update(self, done: int, total: int, note: str | None = None) -> None:
        pace = self._pace.note(done, total, time.monotonic())
        self.done, self.total, self.note, self.known = done, total, pace if note is None else note, True
        self._changed()

    def close(self) -> None:
        self._close(self)

    def text(self, columns: int) -> str:
        return bar_text(self.title, self.done, self.total, self.note, columns)
