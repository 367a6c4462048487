"""What a report says in words and figures: the outcome, the checks, the settings. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmon.migration.report.text import moment, rate, times, wait
from qmon.notation.left_behind import sentence
from qmon.notation.units import human_size

Fields = Mapping[str, Any]


class Judgement(enum.Enum):
    """How a check went; the value is its sign, so that no colour is needed."""

    GOOD = "✓"
    OPEN = "○"
    BAD = "✗"


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was verified, or was not."""

    judgement: Judgement
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The results of ``query-migrate``, ``x-qmon-query-migrate-timeline`` and the settings."""

    info: Fields
    timeline: Fields
    parameters: Fields
    defaults: Fields
    capabilities: Sequence[str]
    """Those that are on, and ``NAME off`` for one that is on by default."""
    machine: str
    """The machine's name, "" if it has none."""
    version: str

    @property
    def status(self) -> str:
        return str(self.info.get("status", "none"))

    @property
    def is_source(self) -> bool:
        return self.info.get("x-qmon-side") != "destination"

    @property
    def is_in_doubt(self) -> bool:
        return self.status == "device" and "error-desc" in self.info

    @property
    def is_over(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")

    @property
    def drives(self) -> list[str]:
        return [str(disk["drive"]) for disk in self.info.get("x-qmon-disks", ())]


_OUTCOMES = {
    ("completed", True): "The disks were moved: the destination has them and runs.",
    ("completed", False): "The disks have arrived: this side has them.",
    ("failed", True): "It failed. The disks stayed here.",
    ("failed", False): "It failed. The images here may be partial.",
    ("cancelled", True): "It was cancelled. The disks stayed here.",
    ("postcopy-paused", True): "It is paused. Guests go on here.",
    ("postcopy-paused", False): "It is paused until the source connects again.",
}


def outcome(facts: Facts) -> str:
    """Return one sentence about the state."""
    if facts.is_in_doubt and facts.is_source:
        return "It is in doubt: this side does not know whether the destination runs."
    found = _OUTCOMES.get((facts.status, facts.is_source))
    return found or f"It is under way ({facts.status}); these are the figures so far."


def headline(facts: Facts) -> list[tuple[str, str]]:
    """Return the few figures that matter most, each (name, value)."""
    info, points = facts.info, facts.timeline["points"]
    disk = info.get("disk", {})
    found: list[tuple[str, str]] = []
    if "total-time" in info:
        found.append(("Total time", moment(info["total-time"])))
    if "transferred" in disk:
        found.append(("Sent" if facts.is_source else "Received", human_size(disk["transferred"])))
        if seconds := (info.get("total-time", 0) - info.get("setup-time", 0)) / 1000:
            found.append(("Mean rate", rate(disk["transferred"] / seconds)))
    if "downtime" in info:
        found.append(("Downtime", moment(info["downtime"])))
    if facts.is_source and (longest := max((point["longest-wait"] for point in points), default=0)):
        found.append(("Longest wait", wait(longest)))
    if not facts.is_over and disk.get("total"):
        found.append(("Left", human_size(disk["remaining"])))
    return found


def checks(facts: Facts) -> Iterator[Check]:
    """Yield what was verified, and what was not, in the order of a migration."""
    info, marks = facts.info, facts.timeline["marks"]
    drives = ", ".join(facts.drives) or "no copied drive"
    agreed = "setup-time" in info
    judgement = Judgement.GOOD if agreed else Judgement.OPEN
    yield Check(judgement, f"Both sides agreed on the drives: presence, size, space and locks ({drives})")
    if flushes := sum(mark["count"] for mark in marks if mark["kind"] == "flush"):
        yield Check(Judgement.GOOD, f"Both sides flushed while the machine ran: {times(flushes, 'time')}")
    for mark in marks:
        if mark["kind"] == "compared":
            yield Check(Judgement.GOOD, f"Compared: {mark['text']} (at {moment(mark['time'])})")
    if "x-qmon-compared" in info:
        found = info["x-qmon-compared"]
        what = f"{human_size(found['bytes'])} in {times(found['chunks'], 'chunk')}"
        yield Check(Judgement.GOOD, f"Checksums as sent and as applied are equal: {what}")
    if "x-qmon-verified" in info:
        yield Check(Judgement.GOOD, f"The result was verified by: {info['x-qmon-verified']}")
    elif facts.is_over:
        yield Check(Judgement.OPEN, "The result was not verified: nothing was handed over")
    else:
        yield Check(Judgement.OPEN, "The result is not verified yet")
    for mark in marks:
        if mark["kind"] in ("overdue", "pause"):
            what = "A switchover took too long" if mark["kind"] == "overdue" else "Paused"
            more = f", {mark['count']} times until {moment(mark['until'])}" if mark["count"] > 1 else ""
            yield Check(Judgement.OPEN, f"{what}: {mark['text']} (at {moment(mark['time'])}{more})")
    for entry in info.get("x-qmon-stays-behind", ()):
        yield Check(Judgement.OPEN, sentence(entry, is_over=facts.status == "completed"))
    for away in info.get("x-qmon-turned-away", ()):
        yield Check(
            Judgement.OPEN, f"Clients of export '{away['export']}' were disconnected: {away['clients']}"
        )
    if stuck := info.get("x-qmon-not-converging"):
        yield Check(Judgement.BAD, f"It does not converge: {stuck['reason']}")
    if info.get("error-desc"):
        yield Check(Judgement.BAD, info["error-desc"])


def figures(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the other figures and names, each (name, value)."""
    info, points = facts.info, facts.timeline["points"]
    disk = info.get("disk", {})
    yield "Side", "source" if facts.is_source else "destination"
    if facts.machine:
        yield "Machine", facts.machine
    if "x-qmon-peer" in info:
        yield "To", info["x-qmon-peer"]
    if "x-qmon-id" in info:
        yield "Id", info["x-qmon-id"]
    for name, field in (("Setup", "setup-time"), ("Downtime expected", "expected-downtime")):
        if field in info:
            yield name, moment(info[field])
    if disk.get("total"):
        yield "To copy in all", human_size(disk["total"])
        yield "Left", human_size(disk["remaining"])
        if facts.is_source:
            yield "Rounds", str(disk["dirty-sync-count"])
    if "x-qmon-overdue-switchovers" in info:
        yield "Switchovers that took too long", str(info["x-qmon-overdue-switchovers"])
    if most := max((point["send-rate"] for point in points), default=0):
        yield "Highest rate", rate(most)
    if most := max((point["guest-write-rate"] for point in points), default=0):
        yield "Highest rate of guests' writes", rate(most)
    yield "Points of the time line", str(len(points))


def settings(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield the parameters that matter or differ from their defaults, and the capabilities as given."""
    always: tuple[str, ...] = ("max-bandwidth", "downtime-limit") if facts.is_source else ()
    if "multifd" in facts.capabilities:
        always += ("multifd-channels", "multifd-compression")
    for name, value in facts.parameters.items():
        if name in always or value != facts.defaults.get(name):
            yield name, _value(name, value)
    if facts.capabilities:
        yield "capabilities", ", ".join(facts.capabilities)


def _value(name: str, value: object) -> str:
    if name == "max-bandwidth" and isinstance(value, int):
        return rate(value) if value else "no limit"
    if name == "downtime-limit":
        return f"{value} ms"
    return str(value)


def spans(facts: Facts) -> list[tuple[float, float, str]]:
    """Return the states one after another, each (begin, end, name) in milliseconds."""
    states = [(mark["time"], mark["text"]) for mark in facts.timeline["marks"] if mark["kind"] == "state"]
    end = max(facts.timeline["points"][-1]["time"], states[-1][0] if states else 0)
    following = [begin for begin, _ in states[1:]] + [end]
    return [(begin, until, name) for (begin, name), until in zip(states, following, strict=True)]
