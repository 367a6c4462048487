"""Draws plots over the time of a migration as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmon.migration.report.text import escaped, moment, tick

Point = Mapping[str, Any]
"""XQmonMigrationPoint (``spec/qmp/x-qmon.json``)."""
Mark = Mapping[str, Any]
"""XQmonMigrationMark."""

WIDTH = 960
LEFT = 92
RIGHT = 14
_TOP = 12
_BOTTOM = 24
_LEAST_LOG = 10.0
"""The bottom of a logarithmic scale."""

_STEPS_MS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(1000 * seconds for seconds in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)),
    *(3600_000 * hours for hours in (6, 12, 24, 48, 96, 240)),
)
MARKED = {"state": "", "overdue": "bad", "error": "bad", "pause": "wait", "resume": "", "setting": ""}
"""The kinds of marks that have a line in the plots, with its class."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure of the points. An ``is_level`` one is of the moment; the others hold for the interval."""

    label: str
    field: str
    css: str
    filled: bool = False
    is_level: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot; ``limit`` is a value to be seen against, with its name."""

    title: str
    curves: tuple[Curve, ...]
    show: Callable[[float], str]
    is_log: bool = False
    is_binary: bool = True
    limit: tuple[float, str] | None = None
    height: int = 170


class Axis:
    """The time from 0 to ``end_ms`` on the width of a plot."""

    def __init__(self, end_ms: float) -> None:
        self.end = max(end_ms, 1)

    def x(self, milliseconds: float) -> float:
        """Return where a time is."""
        return round(LEFT + min(milliseconds / self.end, 1) * (WIDTH - LEFT - RIGHT), 1)

    def ticks(self) -> Iterator[float]:
        """Yield some round times."""
        step = next((each for each in _STEPS_MS if self.end / each <= 8), self.end)
        yield from (step * number for number in range(int(self.end / step) + 1))


class _Scale:
    """The values of a plot on its height."""

    def __init__(self, plot: Plot, most: float) -> None:
        self._log = plot.is_log
        self._height = plot.height - _TOP - _BOTTOM
        if plot.is_log:
            self.most = 10 ** math.ceil(math.log10(max(most, 10 * _LEAST_LOG)))
            self.ticks = [10.0**power for power in range(1, round(math.log10(self.most)) + 1)]
        else:
            step = _step(most, is_binary=plot.is_binary)
            self.most = max(step, math.ceil(most / step) * step)
            self.ticks = [step * number for number in range(round(self.most / step) + 1)]

    def y(self, value: float) -> float:
        if self._log:
            least, top = math.log10(_LEAST_LOG), math.log10(self.most)
            share = (math.log10(max(value, _LEAST_LOG)) - least) / (top - least)
        else:
            share = value / self.most
        return round(_TOP + (1 - min(share, 1)) * self._height, 1)


def _step(most: float, *, is_binary: bool) -> float:
    """Return a round distance that fits two to five times into ``most``."""
    least = max(most, 1) / 4
    if is_binary:
        return 2.0 ** math.ceil(math.log2(least))
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least)


def draw(plot: Plot, points: Sequence[Point], marks: Sequence[Mark], axis: Axis) -> str:
    """Return the SVG of a plot."""
    most = max((point[curve.field] for curve in plot.curves for point in points), default=0)
    if plot.limit is not None and plot.limit[0] <= 2 * most:
        most = max(most, plot.limit[0])
    scale = _Scale(plot, most)
    bottom = plot.height - _BOTTOM
    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {plot.height}" role="img" aria-label="{escaped(plot.title)}">',
            *_grid(plot, scale, axis, bottom),
            *(_curve(curve, points, scale, axis, bottom) for curve in plot.curves),
            *_limit(plot, scale),
            *_lines(marks, axis, bottom),
            *_told(plot, points, axis, bottom),
            "</svg>",
        ]
    )


def _grid(plot: Plot, scale: _Scale, axis: Axis, bottom: int) -> Iterator[str]:
    for value in scale.ticks:
        y = scale.y(value)
        yield f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>'
        yield f'<text class="tick end" x="{LEFT - 8}" y="{y + 4}">{escaped(plot.show(value))}</text>'
    for time in axis.ticks():
        x = axis.x(time)
        yield f'<line class="grid" x1="{x}" y1="{bottom}" x2="{x}" y2="{bottom + 4}"/>'
        yield f'<text class="tick middle" x="{x}" y="{bottom + 17}">{tick(time)}</text>'


def _curve(curve: Curve, points: Sequence[Point], scale: _Scale, axis: Axis, bottom: int) -> str:
    begun, path = 0.0, []
    for point in points:
        y = scale.y(point[curve.field])
        if not curve.is_level:
            path.append(f"{axis.x(begun)},{y}")
        path.append(f"{axis.x(point['time'])},{y}")
        begun = point["time"]
    if not path:
        return ""
    line = f'<polyline class="curve {curve.css}" points="{" ".join(path)}"/>'
    if not curve.filled:
        return line
    ends = path[0].partition(",")[0], path[-1].partition(",")[0]
    area = " ".join([f"{ends[0]},{bottom}", *path, f"{ends[1]},{bottom}"])
    return f'<polygon class="area {curve.css}" points="{area}"/>{line}'


def _limit(plot: Plot, scale: _Scale) -> Iterator[str]:
    if plot.limit is None or not 0 < plot.limit[0] <= scale.most:
        return
    y = scale.y(plot.limit[0])
    yield f'<line class="limit" x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}"/>'
    yield f'<text class="tick" x="{LEFT + 6}" y="{y - 5}">{escaped(plot.limit[1])}</text>'


def _lines(marks: Sequence[Mark], axis: Axis, bottom: int) -> Iterator[str]:
    for mark in marks:
        if mark["kind"] in MARKED and mark["time"]:
            x = axis.x(mark["time"])
            css = f"mark {MARKED[mark['kind']]}".strip()
            yield f'<line class="{css}" x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}"/>'


def _told(plot: Plot, points: Sequence[Point], axis: Axis, bottom: int) -> Iterator[str]:
    """Yield what a pointer over an interval is told."""
    begun = 0.0
    for point in points:
        x, width = axis.x(begun), max(axis.x(point["time"]) - axis.x(begun), 0.5)
        begun = point["time"]
        figures = ", ".join(f"{each.label} {plot.show(point[each.field])}" for each in plot.curves)
        yield (
            f'<rect class="over" x="{x}" y="{_TOP}" width="{width:.1f}" height="{bottom - _TOP}">'
            f"<title>{escaped(f'{moment(begun)}: {figures}')}</title></rect>"
        )


def band(spans: Sequence[tuple[float, float, str]], axis: Axis, title: str, *, ticks: bool = False) -> str:
    """Return a bar of named spans of time, each (begin, end, name) in milliseconds."""
    height = 46 if ticks else 26
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escaped(title)}">']
    for begin, end, name in spans:
        x, width = axis.x(begin), max(axis.x(end) - axis.x(begin), 0.8)
        told = escaped(f"{name}: {moment(end - begin)}, from {moment(begin)} on")
        css = "".join(filter(str.isalpha, name))
        place = f'x="{x}" y="2" width="{width:.1f}" height="22"'
        parts.append(f'<rect class="span {css}" {place}><title>{told}</title></rect>')
        if width > 9 * len(name):
            parts.append(f'<text class="name" x="{x + 6}" y="17">{escaped(name)}</text>')
    if ticks:
        parts += [
            f'<text class="tick middle" x="{axis.x(time)}" y="41">{tick(time)}</text>'
            for time in axis.ticks()
        ]
    return "\n".join([*parts, "</svg>"])
