"""Draws the time line of a migration in text (``info migrate -t``). Pure.

The figures are those of ``x-qmon-query-migrate-timeline``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmon.hmp.layout import labelled
from qmon.notation.migration_states import explained
from qmon.notation.units import duration, human_size

_Fields = Mapping[str, Any]

ROWS = 4
"""The height of a plot."""

_GUTTER = 11
"""Columns left of a plot, for its scale."""

_MAX_WIDTH = 120
_MAX_MARKS = 12
_TOLD = frozenset({"state", "overdue", "pause", "resume", "error", "compared", "setting"})
"""The kinds of marks that are listed; the others are counted."""


@dataclass(frozen=True, slots=True)
class Pen:
    """The characters of a plot: those for parts of a cell, fullest last, the axis, its corner and line."""

    parts: str
    axis: str
    corner: str
    line: str


BLOCKS = Pen("▁▂▃▄▅▆▇█", "│", "└", "─")
ASCII = Pen(".:#", "|", "+", "-")


@dataclass(frozen=True, slots=True)
class _Series:
    """A row of a plot. Where several points are in one column, it shows their mean, or the greatest."""

    title: str
    field: str
    show: Callable[[float], str]
    is_peak: bool = False
    always: bool = False


def _rate(value: float) -> str:
    return f"{human_size(value)}/s"


def _wait(microseconds: float) -> str:
    return f"{microseconds / 1000:.3g} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.3g} s"


_SERIES = (
    _Series("Sent", "send-rate", _rate, always=True),
    _Series("Left", "remaining", human_size, always=True),
    _Series("Written by guests", "guest-write-rate", _rate),
    _Series("Longest wait of a guest's request", "longest-wait", _wait, is_peak=True),
    _Series(
        "Slowing down of guests' writes", "throttle-percentage", lambda value: f"{value:.0f} %", is_peak=True
    ),
)


def chart_lines(timeline: _Fields, columns: int, pen: Pen) -> Iterator[str]:
    """Yield the drawing of a XQmonMigrationTimeline, at most ``columns - 1`` wide where texts allow."""
    yield from labelled("Migration", _head(timeline), columns)
    points = timeline["points"]
    if not points:
        return
    width = max(10, min(columns - 2, _MAX_WIDTH) - _GUTTER)
    end = max(points[-1]["time"], 1)
    is_here = timeline.get("x-qmon-side") == "destination"
    for series in _SERIES:
        values = _spread(points, series, width, end)
        if series.always or any(values):
            title = "Received" if is_here and series.title == "Sent" else series.title
            yield ""
            yield title
            yield from _plot(values, series.show, pen)
    yield from _scale(timeline, width, end, pen)


def plain_lines(timeline: _Fields) -> Iterator[str]:
    """Yield a line for each point and mark, in order, for programs."""
    if not timeline["points"]:
        yield "No migration"
    rows = [(point["time"], 0, _point_line(point)) for point in timeline["points"]]
    rows += [(mark["time"], 1, _mark_text(mark, tells_kind=True)) for mark in timeline["marks"]]
    for milliseconds, _, text in sorted(rows, key=lambda row: row[:2]):
        yield f"{milliseconds / 1000:.3f} s: {text}"


def _point_line(point: _Fields) -> str:
    return (
        f"sent {point['send-rate']} bytes/s, left {point['remaining']} bytes,"
        f" written {point['guest-write-rate']} bytes/s, longest wait {point['longest-wait']} us,"
        f" throttle {point['throttle-percentage']} %"
    )


def _head(timeline: _Fields) -> str:
    if timeline["status"] == "none":
        return "none so far"
    seconds = timeline.get("total-time", 0) / 1000
    took = f" after {_time(seconds)}"
    peer = f", to {timeline['x-qmon-peer']}" if "x-qmon-peer" in timeline else ""
    return f"{timeline['status']}{took}{peer}"


def _time(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.2f} s"


def _spread(points: Sequence[_Fields], series: _Series, width: int, end: int) -> list[float]:
    """Return the values for each of ``width`` columns, which cover the time from 0 to ``end``."""
    values = [0.0] * width
    weights = [0.0] * width
    begun = 0
    for point in points:
        first, last = begun * width / end, max(point["time"], begun) * width / end
        begun = point["time"]
        for column in range(int(first), min(width - 1, int(last)) + 1):
            if series.is_peak:
                values[column] = max(values[column], point[series.field])
            else:
                weight = max(min(column + 1, last) - max(column, first), 1e-9)
                values[column] += point[series.field] * weight
                weights[column] += weight
    if series.is_peak:
        return values
    return [value / weight if weight else 0.0 for value, weight in zip(values, weights, strict=True)]


def _plot(values: Sequence[float], show: Callable[[float], str], pen: Pen) -> Iterator[str]:
    most = max(values)
    steps = len(pen.parts)
    heights = [_height(value, most, ROWS * steps) for value in values]
    for row in reversed(range(ROWS)):
        cells = ((" " + pen.parts)[max(0, min(steps, height - row * steps))] for height in heights)
        label = show(most) if row == ROWS - 1 else ""
        yield f"{label:>{_GUTTER - 1}}{pen.axis}{''.join(cells)}".rstrip()


def _height(value: float, most: float, steps: int) -> int:
    """Return the height of a column; what is not zero can be seen."""
    return 0 if value <= 0 else max(1, round(value / most * steps))


def _scale(timeline: _Fields, width: int, end: int, pen: Pen) -> Iterator[str]:
    """Yield the time axis with the numbers of the marks below it, and the marks."""
    told = [mark for mark in timeline["marks"] if mark["kind"] in _TOLD][-_MAX_MARKS:]
    last = f"{_time(end / 1000)}"
    yield f"{' ' * (_GUTTER - 1)}{pen.corner}{pen.line * width}"
    yield f"{' ' * (_GUTTER - 1)}0{last:>{width}}"
    yield ""
    for mark in told:
        yield f"{_time(mark['time'] / 1000):>10} {_mark_text(mark)}"
    counts = [text for kind, noun in _COUNTED.items() if (text := _count(timeline["marks"], kind, noun))]
    if counts:
        yield f"{'in all':>10} {', '.join(counts)}"


_COUNTED = {
    "round": ("round", "rounds"),
    "flush": ("flush", "flushes"),
    "switchover": ("attempt of the switchover", "attempts of the switchover"),
}
"""Marks that are only counted, with what they are called."""


def _count(marks: Sequence[_Fields], kind: str, nouns: tuple[str, str]) -> str:
    count = sum(mark["count"] for mark in marks if mark["kind"] == kind)
    return f"{count} {nouns[count > 1]}" if count else ""


_WORDS = {
    "overdue": "the switchover took too long",
    "pause": "paused",
    "resume": "continued",
    "error": "error",
    "compared": "compared",
    "setting": "changed",
}


def _mark_text(mark: _Fields, *, tells_kind: bool = False) -> str:
    kind = mark["kind"] if tells_kind else _WORDS.get(mark["kind"], "")
    said = explained(mark["text"]) if mark["kind"] == "state" and not tells_kind else mark["text"]
    text = ": ".join(filter(None, (kind, said)))
    return text if mark["count"] == 1 else f"{text} ({mark['count']} times)"
