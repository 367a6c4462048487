"""The time line of a migration: its figures over time, and marks of what happened. Its memory is bounded."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

MAX_POINTS = 400
"""When there are so many points, each two neighbours become one: a day has two to four hundred of them."""

MAX_MARKS = 100
"""The most marks of one kind."""

FIRST_SPACING = 0.05
"""Seconds between two points at first. A copy of a second has enough of them then."""

MAX_TEXT = 500
"""Characters of a mark's text."""


class Mark(enum.Enum):
    """What may happen in a migration."""

    STATE = "state"
    ROUND = "round"
    FLUSH = "flush"
    SWITCHOVER = "switchover"
    """An attempt of the switchover begins: the gates close."""
    OVERDUE = "overdue"
    """A switchover took too long, and was abandoned."""
    PAUSE = "pause"
    """The connection was lost, or the operator has paused the migration."""
    RESUME = "resume"
    """The migration continues over a new connection."""
    ERROR = "error"
    COMPARED = "compared"
    SETTING = "setting"
    """A parameter was changed, or a throttle's strength."""


@dataclass(frozen=True, slots=True)
class Point:
    """An interval that ends ``at`` seconds after the start. Figures are of its end, or as they say."""

    at: float
    sent: int
    """Bytes of data since the start: sent, or received at a destination."""
    written: int
    """Bytes that guests have written since the start."""
    remaining: int
    wait_ns: int
    """The longest time that a guest's request took, of those that ended or waited in the interval."""
    throttle: int
    """The most per cent by which guests' writes were slowed down in the interval."""

    def joined(self, later: Point) -> Point:
        """Return one point for this interval and the one after it."""
        wait, throttle = max(self.wait_ns, later.wait_ns), max(self.throttle, later.throttle)
        return replace(later, wait_ns=wait, throttle=throttle)


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened ``at`` seconds after the start, and ``count`` times until ``until``."""

    at: float
    kind: Mark
    text: str = ""
    count: int = 1
    until: float = 0.0

    def joined(self, later: Happening) -> Happening:
        """Return one for this and the next one of its kind."""
        count = self.count + later.count
        return Happening(self.at, self.kind, later.text, count, later.until or later.at)


class _Joins(Protocol):
    def joined(self, later: Self) -> Self: ...


_Item = TypeVar("_Item", bound=_Joins)


class Timeline:
    """The points and marks of one migration. One thread adds points, any thread marks; any may read."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.wall = time.time()
        """The start in seconds since 1970."""
        self.spacing = FIRST_SPACING
        """The seconds between two points. It grows with the time line."""
        self._points: list[Point] = []
        self._marks: dict[Mark, list[Happening]] = {}
        self._lock = threading.Lock()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    def add(self, point: Point) -> None:
        """Add a point, which is later than all others."""
        self._points.append(point)
        if len(self._points) >= MAX_POINTS:
            self.spacing *= 2
            self._points = _joined(self._points)

    def mark(self, kind: Mark, text: str = "") -> None:
        """Note that something happens now. For any thread."""
        with self._lock:
            marks = [*self._marks.get(kind, ()), Happening(self.now, kind, text[:MAX_TEXT])]
            if len(marks) > MAX_MARKS:
                marks = _joined(marks)
            self._marks[kind] = marks

    @property
    def points(self) -> list[Point]:
        """The points, in order."""
        return list(self._points)

    @property
    def happenings(self) -> list[Happening]:
        """What happened, in order."""
        with self._lock:
            found = [each for marks in self._marks.values() for each in marks]
        return sorted(found, key=lambda each: each.at)


def _joined(items: Sequence[_Item]) -> list[_Item]:
    """Join each two neighbours. The last one of an odd number stays."""
    pairs = [first.joined(second) for first, second in zip(items[::2], items[1::2], strict=False)]
    return [*pairs, *items[len(pairs) * 2 :]]
