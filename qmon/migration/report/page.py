"""The page: everything in one file, without scripts and without anything from elsewhere. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from qmon.migration.report.findings import (
    Facts,
    Judgement,
    checks,
    figures,
    headline,
    outcome,
    settings,
    spans,
)
from qmon.migration.report.plot import Axis, Curve, Plot, band, draw
from qmon.migration.report.style import STYLE
from qmon.migration.report.text import escaped, moment, percent, rate, wait
from qmon.notation.migration_states import explained
from qmon.notation.units import human_size

SIGN = b"<!DOCTYPE html>\n<!-- A report of a migration, made by qmon -->\n"
"""How every report begins. A file that begins otherwise is never replaced by one."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_HANDOVER = ("pre-switchover", "switchover", "prepared", "gone")


def page(facts: Facts) -> bytes:
    """Return the report as a file's content."""
    title = escaped(_title(facts))
    body = "\n".join(_body(facts))
    text = (
        f'<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"/>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f'<meta name="color-scheme" content="light dark"/>\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
    return SIGN + text.encode()


def _title(facts: Facts) -> str:
    drives = ", ".join(facts.drives)
    what = f"Migration of {drives}" if drives else "Migration"
    return f"{what} to {facts.info['x-qmon-peer']}" if "x-qmon-peer" in facts.info else what


def _body(facts: Facts) -> Iterator[str]:
    status = "in doubt" if facts.is_in_doubt and facts.is_source else facts.status
    yield f"<header><h1>{escaped(_title(facts))}</h1>"
    yield f'<p class="status {escaped(status.split()[-1])}">{escaped(status)}</p>'
    yield f"<p>{escaped(outcome(facts))}</p></header>"
    yield '<section class="figures">'
    for name, value in headline(facts):
        yield f"<div><b>{escaped(value)}</b><span>{escaped(name)}</span></div>"
    yield "</section>"
    if facts.timeline["points"]:
        yield from _plots(facts)
    yield '<section><h2>Checks</h2><ul class="checks">'
    words = {Judgement.GOOD: "good", Judgement.OPEN: "open", Judgement.BAD: "bad"}
    for check in checks(facts):
        css = words[check.judgement]
        yield f'<li class="{css}"><b>{check.judgement.value}</b> {escaped(check.text)}</li>'
    yield "</ul></section>"
    yield from _tables(facts)
    started = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(facts.timeline.get("started", 0)))
    made = time.strftime("%Y-%m-%d %H:%M:%S %z")
    began = f"Began {started}. Report made {made} by qmon {facts.version}."
    yield f"<footer>{escaped(began)}</footer>"


def _plots(facts: Facts) -> Iterator[str]:
    points, marks = facts.timeline["points"], facts.timeline["marks"]
    axis = Axis(points[-1]["time"])
    found = spans(facts)
    yield "<section><h2>Course</h2>"
    yield band(found, axis, "The states")
    for plot in _chosen(facts):
        yield f'<h3>{escaped(plot.title)}<span class="legend">'
        if len(plot.curves) > 1:
            yield " ".join(f'<i class="{each.css}"></i>{escaped(each.label)}' for each in plot.curves)
        yield f"</span></h3>\n{draw(plot, points, marks, axis)}"
    yield "</section>"
    handover = [each for each in found if each[2] in _HANDOVER]
    if handover and facts.is_source:
        last = max(number for number, each in enumerate(found) if each in handover)
        first = last
        while first and found[first - 1][2] in _HANDOVER:
            first -= 1
        start, end = found[first][0], found[last][1]
        shifted = [(begin - start, until - start, name) for begin, until, name in found[first : last + 1]]
        yield f"<section><h2>The switchover: {moment(end - start)}</h2>"
        yield band(shifted, Axis(end - start), "The switchover", ticks=True)
        yield "</section>"


def _chosen(facts: Facts) -> Iterator[Plot]:
    """Yield the plots that have something to show."""
    points = facts.timeline["points"]
    limit, downtime = facts.parameters.get("max-bandwidth", 0), facts.parameters.get("downtime-limit", 0)
    sent = Curve("sent" if facts.is_source else "received", "send-rate", "first", filled=True)
    writes = Curve("written by guests", "guest-write-rate", "second")
    has_writes = any(point[writes.field] for point in points)
    yield Plot(
        "Sent per second" if facts.is_source else "Received per second",
        (sent, writes) if has_writes else (sent,),
        rate,
        limit=(limit, "max-bandwidth") if limit and facts.is_source else None,
    )
    left = Curve("left", "remaining", "third", filled=True, is_level=True)
    yield Plot("Left to send", (left,), human_size, height=130)
    waits = Curve("longest wait", "longest-wait", "fourth", filled=True)
    if any(point[waits.field] for point in points):
        yield Plot(
            "Longest wait of a guest's request",
            (waits,),
            wait,
            is_log=True,
            limit=(downtime * 1000, "downtime-limit") if facts.is_source else None,
        )
    throttle = Curve("throttle", "throttle-percentage", "second", filled=True)
    if any(point[throttle.field] for point in points):
        yield Plot("Slowing down of guests' writes", (throttle,), percent, is_binary=False, height=110)


def _tables(facts: Facts) -> Iterator[str]:
    disks = facts.info.get("x-qmon-disks", ())
    if disks:
        fields = ("total", "transferred", "remaining")
        rows = [
            [disk["drive"], *(human_size(disk[field]) if field in disk else "" for field in fields)]
            for disk in disks
        ]
        moved = "Sent" if facts.is_source else "Received"
        yield from _table("Drives", [["Drive", "Size", moved, "Left"], *rows], has_heads=True)
    yield '<div class="pair">'
    yield from _table("Figures", figures(facts))
    yield from _table("Settings", settings(facts))
    yield "</div>"
    yield from _table("Events", [["Time", "Event", ""], *_events(facts)], has_heads=True)


def _events(facts: Facts) -> Iterator[tuple[str, str, str]]:
    for mark in facts.timeline["marks"]:
        times = f" ({mark['count']} times, until {moment(mark['until'])})" if mark["count"] > 1 else ""
        text = explained(mark["text"]) if mark["kind"] == "state" else mark["text"]
        yield moment(mark["time"]), mark["kind"], f"{text}{times}"


def _table(title: str, rows: Iterable[Iterable[str]], *, has_heads: bool = False) -> Iterator[str]:
    found = [list(row) for row in rows]
    if len(found) <= has_heads:
        return
    yield f'<section><h2>{escaped(title)}</h2><div class="wide"><table>'
    for number, row in enumerate(found):
        tag = "th" if has_heads and not number else "td"
        yield f"<tr>{''.join(f'<{tag}>{escaped(cell)}</{tag}>' for cell in row)}</tr>"
    yield "</table></div></section>"
