"""Keeps the time line of the machine's migration: a timer of the loop that reads counters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from qmon.machine.machine import Machine
from qmon.migration.progress import Progress
from qmon.migration.timeline import Mark, Point, Timeline


class MigrationRecorder:
    """For the loop. ``read`` returns the migration's progress, and the bytes that guests have written."""

    def __init__(self, machine: Machine, read: Callable[[], tuple[Progress, int] | None]) -> None:
        self._machine = machine
        self._read = read
        self._timer: asyncio.TimerHandle | None = None
        self._told: tuple[Progress, str | None] | None = None
        """The progress whose errors are noted, and the last of them."""

    def note(self, *, is_under_way: bool) -> None:
        """Add a point to the time line; while a migration is under way, more follow by themselves."""
        self.stop()
        found = self._read()
        if found is None:
            return
        progress, written = found
        if self._told is None or self._told[0] is not progress:
            self._told = (progress, None)
            self._longest_wait_ns()  # of the time before
        self._note_error(progress)
        timeline = progress.timeline
        timeline.add(
            Point(
                timeline.now,
                progress.transferred,
                written,
                progress.remaining,
                self._longest_wait_ns(),
                progress.throttle,
            )
        )
        if is_under_way:
            self._timer = self._machine.loop.call_later(timeline.spacing, self._again)

    def stop(self) -> None:
        """Add no more points."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        self.note(is_under_way=True)

    def _note_error(self, progress: Progress) -> None:
        if progress.error is not None and self._told != (progress, progress.error):
            progress.timeline.mark(Mark.ERROR, progress.error)
        self._told = (progress, progress.error)

    def _longest_wait_ns(self) -> int:
        """Return how long a guest's request took at most since the last call."""
        longest = 0
        for drive in self._machine.drives.values():
            waits = drive.gate.take_longest_ns(), drive.guest.accounts.take_longest_ns()
            longest = max(longest, *waits)
        return longest


def describe_timeline(timeline: Timeline) -> dict[str, Any]:
    """Return the time line's part of a XQmonMigrationTimeline (``spec/qmp/x-qmon.json``)."""
    points: list[dict[str, int]] = []
    at, sent, written = 0.0, 0, 0
    for point in timeline.points:
        seconds = max(point.at - at, 1e-3)
        points.append(
            {
                "time": round(point.at * 1000),
                "send-rate": max(0, round((point.sent - sent) / seconds)),
                "guest-write-rate": max(0, round((point.written - written) / seconds)),
                "remaining": point.remaining,
                "longest-wait": point.wait_ns // 1000,
                "throttle-percentage": point.throttle,
            }
        )
        at, sent, written = point.at, point.sent, point.written
    marks: list[dict[str, Any]] = []
    for each in timeline.happenings:
        mark = {
            "time": round(each.at * 1000),
            "kind": each.kind.value,
            "text": each.text,
            "count": each.count,
        }
        marks.append(mark | ({"until": round(each.until * 1000)} if each.count > 1 else {}))
    return {"started": round(timeline.wall), "points": points, "marks": marks}
