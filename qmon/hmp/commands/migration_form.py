"""Formats a migration for a person: about ten lines with what matters (``info migrate`` on a terminal).

The figures are those of ``query-migrate``. Each field may be absent: then its row is not shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmon.hmp.commands.migration_info import address_text, left_behind_lines
from qmon.hmp.layout import labelled, shortened, table
from qmon.hmp.migration_state import is_awaited, is_in_doubt, is_ours, is_under_way, moves_guest
from qmon.hmp.migration_words import (
    compared_line,
    forwarded_figures,
    matched_lines,
    not_served,
    turned_away,
    unconfirmed_line,
    what_helps,
    write_rate,
)
from qmon.notation.units import duration, human_size

_Fields = Mapping[str, Any]

_WORDS = {
    "setup": "preparing: the two sides compare their drives",
    "active": "copying",
    "pre-switchover": "waiting before the switchover: 'migrate_continue pre-switchover' continues it",
    "device": "switching over",
    "cancelling": "being cancelled",
    "postcopy-active": "running at the destination, which still fetches memory",
    "postcopy-paused": "paused, because the connection was lost: 'migrate -r URI' continues it",
    "postcopy-recover": "reconnecting",
    "wait-unplug": "waiting until devices are unplugged",
}
_WORDS_AT = {
    ("source", "completed"): "moved: the destination has the disks",
    ("source", "failed"): "failed: the disks stay here",
    ("source", "cancelled"): "cancelled: the disks stay here",
    ("source", "postcopy-paused"): "paused: the guests run here; 'migrate -r URI' continues it",
    ("destination", "postcopy-paused"): (
        "paused, the images are partial: 'migrate -r URI' at the source continues it;"
        " 'migrate_recover URI' listens at another address"
    ),
    ("destination", "active"): "receiving",
    ("destination", "device"): "received: waiting until the source releases the disks",
    ("destination", "completed"): "arrived: this side has the disks",
}
"""What a status (qapi/migration.json) means; on one side, if it is known, it may say more."""
_WORDS_OF_GUEST = {
    ("source", "completed"): "moved: the guest runs at the destination",
    ("source", "failed"): "failed: the guest stays here",
    ("source", "cancelled"): "cancelled: the guest stays here",
    ("destination", "device"): "received: waiting until the source hands the guest over",
    ("destination", "completed"): "arrived: the guest runs here",
}
"""The same where memory moves with the disks."""

_SETTLE = (
    "look whether the guest runs at the destination: if it never will, 'migrate_resolve keep' runs it here;"
    " if it does, 'migrate_resolve release' ends this",
    "look whether the source's QEMU has ended: if it has, 'migrate_resolve keep' runs the guest here",
)
"""How a person ends the doubt about a guest, at the source and at the destination."""

_PARTS = ("disk", "ram")
_FIGURES = ("total", "remaining", "transferred")
_NAME_LEAST = 12
_SIZE_COLUMNS = 8
"""Of every size, so that a figure that changes does not move the others."""
_FIGURES_COLUMNS = 4 * (2 + _SIZE_COLUMNS)
"""At least what the figures of a drive take besides its name."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The results of queries. ``parameters`` are MigrationParameters, ``run_state`` is query-status's."""

    info: _Fields
    parameters: _Fields
    run_state: str = ""
    pauses: bool = False
    """Whether the capability pause-before-switchover is on."""
    has_channels: bool = False
    """Whether the capability multifd is on."""

    @property
    def side(self) -> str:
        """``source``, ``destination``, or "" if it is not known."""
        found = "destination" if is_awaited(self.info) else ""
        return str(self.info.get("x-qmon-side", found))

    @property
    def status(self) -> str:
        return str(self.info.get("status", "none"))


def form_lines(facts: Facts, columns: int) -> Iterator[str]:
    """Yield the lines of the form, each shorter than ``columns``, as far as names allow."""
    for label, text in _head(facts):
        yield from labelled(label, text, columns)
    yield from _drives(facts, columns)
    for label, text in _figures(facts):
        yield from labelled(label, text, columns)
    for label, text in _outcome(facts):
        yield from labelled(label, text, columns)


_Rows = Iterator[tuple[str, str]]


def _head(facts: Facts) -> _Rows:
    info = facts.info
    yield "Migration", _state(facts)
    if "x-qmon-ended" in info:
        yield "Ended", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(info["x-qmon-ended"]))
    if "x-qmon-peer" in info:
        yield ("From" if facts.side == "destination" else "To"), info["x-qmon-peer"]
    if listening := info.get("socket-address"):
        yield "Listens on", ", ".join(map(address_text, listening))
    if reads := info.get("x-qmon-reads"):
        yield "Reads from", reads
    if how := info.get("x-qmon-line"):
        yield "Travels by", how


def _state(facts: Facts) -> str:
    status = facts.status
    if status == "none":
        return _nothing_yet(facts)
    if is_in_doubt(facts.info) and facts.side != "destination":
        words = "in doubt"
    elif facts.info.get("x-qmon-unconfirmed") and status == "completed":
        words = "sent, unconfirmed"
    elif (facts.side, status, facts.run_state) == ("source", "completed", "running"):
        words = "moved: 'cont -f' has made this machine run too"
    elif is_ours(facts.info) and status == "pre-switchover" and facts.info.get("x-qmon-waits") is False:
        words = _WORDS["device"]
    else:
        at = (facts.side, status)
        of_guest = _WORDS_OF_GUEST.get(at) if moves_guest(facts.info) else None
        words = of_guest or _WORDS_AT.get(at) or _WORDS.get(status, status)
    what, _, more = words.partition(": ")
    shown = what if what == status else f"{what} ({status})"
    stuck = ", not converging" if "x-qmon-not-converging" in facts.info else ""
    return "".join([shown, _time(facts), stuck, f": {more}" if more else ""])


def _nothing_yet(facts: Facts) -> str:
    if "socket-address" in facts.info:
        return "waiting for a source to connect"
    if "x-qmon-reads" in facts.info:
        return "waiting for the first data"
    if facts.run_state == "inmigrate":
        return "none yet: 'migrate_incoming URI' makes this side listen"
    return "none so far"


def _time(facts: Facts) -> str:
    milliseconds = facts.info.get("total-time")
    if milliseconds is None:
        return ""
    seconds = milliseconds / 1000
    if is_under_way(facts.info):
        return f" for {duration(seconds)}"
    return f" after {duration(seconds) if seconds >= 10 else f'{seconds:.1f} s'}"


# The drives


def _drives(facts: Facts, columns: int) -> Iterator[str]:
    rows = _sources(facts)
    if not rows:
        return
    heads = ["size", "left"]
    if any("transferred" in figures for _, figures in rows):
        heads.append("received" if facts.side == "destination" else "sent")
    longest = max(_NAME_LEAST, columns - 1 - _FIGURES_COLUMNS)
    cells = [["Drive", "done", *(head.rjust(_SIZE_COLUMNS) for head in heads)]]
    cells += [[shortened(name, longest), *_cells(figures, len(heads))] for name, figures in rows]
    yield from table(cells, "<>>>>"[: len(cells[0])])


def _sources(facts: Facts) -> list[tuple[str, _Fields]]:
    """Return what is copied, each with its name, and their sum if they are several."""
    info = facts.info
    rows = [(str(disk["drive"]), disk) for disk in info.get("x-qmon-disks", ())]
    disk = info.get("disk")
    if not rows and disk and disk.get("total"):
        rows = [("all drives", disk)]
    elif len(rows) == 1:
        rows = [(name, {**(disk or {}), **figures}) for name, figures in rows]
    elif rows:
        rows.append((f"{len(rows)} drives", _sum([figures for _, figures in rows], disk or {})))
    if info.get("ram", {}).get("total"):
        rows.append(("memory", info["ram"]))
    return rows


def _sum(disks: Sequence[_Fields], whole: _Fields) -> _Fields:
    """Return the sums of the figures that are known of every disk, else the migration's own."""
    known = [name for name in _FIGURES if all(name in disk for disk in disks)]
    return {**whole, **{name: sum(disk[name] for disk in disks) for name in known}}


def _cells(figures: _Fields, sizes: int) -> Iterator[str]:
    yield _percent(figures["total"], figures["remaining"]) if {"total", "remaining"} <= figures.keys() else ""
    for name in _FIGURES[:sizes]:
        yield human_size(max(0, figures[name])) if name in figures else ""


def _percent(total: int, left: int) -> str:
    return f"{max(0, total - max(0, left)) * 100 // total if total else 100}%"


# Figures and limits


def _figures(facts: Facts) -> _Rows:
    info = facts.info
    going = is_under_way(info) and not is_in_doubt(info)
    if going and (rates := _rates(facts)):
        yield "Rate", rates
    if rounds := _rounds(info):
        yield "Rounds", str(rounds)
    if going and "x-qmon-remaining-time" in info:
        yield "Time left", duration(info["x-qmon-remaining-time"] / 1000)
    if downtime := _downtime(facts):
        yield "Downtime", downtime
    if going and (percent := info.get("cpu-throttle-percentage")):
        yield "Throttle", f"{percent}% less is written by guests (auto-converge)"
    matters = going or facts.status not in ("completed", "device")
    if facts.side != "destination" and matters and (settings := _settings(facts)):
        yield "Settings", settings


def _rates(facts: Facts) -> str:
    info = facts.info
    sending = info.get("x-qmon-send-rate")
    if sending is None and (megabits := max(info.get(part, {}).get("mbps", 0) for part in _PARTS)):
        sending = megabits * 1e6 / 8
    verb = "received" if facts.side == "destination" else "sent"
    if facts.has_channels and facts.parameters.get("multifd-compression", "none") != "none":
        verb += " compressed"
    rates = [] if sending is None else [f"{human_size(sending)}/s {verb}"]
    if "x-qmon-guest-write-rate" in info:
        who = "the guest" if moves_guest(info) else "guests"
        rates.append(f"{human_size(write_rate(info))}/s written by {who}")
    return ", ".join(rates)


def _rounds(info: _Fields) -> int:
    return max(int(info.get(part, {}).get("dirty-sync-count", 0)) for part in _PARTS)


def _downtime(facts: Facts) -> str:
    info, parts = facts.info, []
    if "downtime" in info:
        parts.append(f"{info['downtime']} ms")
    elif "expected-downtime" in info:
        expected, limit = info["expected-downtime"], facts.parameters.get("downtime-limit")
        is_long = limit is not None and expected > limit and info.get("status") == "active"
        parts.append(f"{expected} ms if guests waited now" if is_long else f"{expected} ms expected")
    if overdue := info.get("x-qmon-overdue-switchovers"):
        parts.append(f"{overdue} switchover{'s' * (overdue != 1)} took too long")
    return ", ".join(parts)


_WITHOUT_CHANNELS = ("x-qmon-copy-mode", "write-blocking")


def _settings(facts: Facts) -> str:
    parameters, parts = facts.parameters, []
    if "max-bandwidth" in parameters:
        most = parameters["max-bandwidth"]
        parts.append(f"max-bandwidth {human_size(most)}/s" if most else "max-bandwidth without limit")
    if "downtime-limit" in parameters:
        parts.append(f"downtime-limit {parameters['downtime-limit']} ms")
    told = ("x-qmon-verify-backing", "x-qmon-verify-copy", "x-qmon-copy-mode", "tls-creds")
    for name in told:
        if parameters.get(name):
            is_lost = facts.has_channels and (name, parameters[name]) == _WITHOUT_CHANNELS
            parts.append(f"{name} {parameters[name]}{' (no effect with multifd)' * is_lost}")
    if facts.has_channels:
        packing = parameters.get("multifd-compression", "none")
        packed = "" if packing == "none" else f" with {packing}"
        parts.append(f"{parameters.get('multifd-channels')} channels{packed}")
    if facts.pauses:
        parts.append("pause-before-switchover on")
    return ", ".join(parts)


# What went wrong or is left to do


def _outcome(facts: Facts) -> _Rows:
    info = facts.info
    if stuck := info.get("x-qmon-not-converging"):
        yield "Cause", stuck["reason"]
        yield "Advice", what_helps(stuck)
    for sentence in left_behind_lines(info):
        yield "Not copied", sentence
    if "x-qmon-verified" in info:
        yield "Verified", info["x-qmon-verified"]
    if compared := compared_line(info):
        yield "Compared", compared.removeprefix("Compared: ")
    if info.get("x-qmon-unconfirmed"):
        yield "Unconfirmed", unconfirmed_line(info).removeprefix("Unconfirmed: ")
    for line in matched_lines(info.get("x-qmon-disks", ())):
        yield "Drives", line.removeprefix("Drives ")
    if away := info.get("x-qmon-turned-away"):
        yield "Guests", turned_away(away, info.get("x-qmon-peer", ""))
    if forwarded := info.get("x-qmon-forwarded"):
        yield "Forwarded", f"{forwarded_figures(forwarded)}: to the destination"
    if forwarded := info.get("x-qmon-forwarded-here"):
        yield "Forwarded", f"{forwarded_figures(forwarded)}: of the source's exports"
    if cut_off := info.get("x-qmon-unreachable"):
        yield "Guests", not_served(cut_off["drives"], cut_off["nbd-server"])
    for why in info.get("blocked-reasons", ()):
        yield "Blocked", why
    if info.get("error-desc"):
        yield "Reason", info["error-desc"]
    if is_in_doubt(info) and moves_guest(info):
        yield "What to do", _SETTLE[facts.side == "destination"]
