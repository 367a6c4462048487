"""Puts the figures of a migration into words: its pace, why it does not converge, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qmon.errors import QmonError
from qmon.hmp.migration_state import Info, is_ours, moves_guest
from qmon.notation.left_behind import sentence
from qmon.notation.units import KIB, MIB, duration, human_size
from qmon.notation.way_back import WAITING, unconfirmed
from qmon.qmp.target import Target, ask


def pace(info: Info) -> str:
    """Return the rates and the time left, as far as they are known.

    For example ``10 MiB/s, guests write 2 MiB/s, 8 s left``.
    """
    rate, written, left = _clauses(info)
    return ", ".join(filter(None, (rate, written, left)))


def short_pace(info: Info) -> str:
    """Return the same for a narrow row, which may cut off its end: what matters most comes first."""
    rate, written, left = _clauses(info)
    return ", ".join(filter(None, (rate, left, written)))


def _clauses(info: Info) -> tuple[str, str, str]:
    rate, written = _send_rate(info), write_rate(info)
    who = "the guest writes" if moves_guest(info) else "guests write"
    return (
        f"{human_size(rate)}/s" if rate else "",
        f"{who} {human_size(written)}/s" if written else "",
        f"{duration(info['x-qmon-remaining-time'] / 1000)} left" if "x-qmon-remaining-time" in info else "",
    )


def amount(info: Info) -> tuple[int, int] | None:
    """Return how many bytes of how many are sent; None if that is not known.

    Of the disks, or of a QEMU's memory; of both together where consoles move a QEMU's guest.
    """
    parts = [info[key] for key in ("disk", "ram") if info.get(key, {}).get("total")]
    parts = parts if moves_guest(info) else parts[:1]
    total = sum(part["total"] for part in parts)
    return (total - sum(part["remaining"] for part in parts), total) if parts else None


def write_rate(info: Info) -> float:
    """Return how many bytes of disks and memory the guests write each second, 0 if that is not known."""
    written: float = info.get("x-qmon-guest-write-rate", 0)
    if moves_guest(info):
        ram = info.get("ram", {})
        written += ram.get("dirty-pages-rate", 0) * ram.get("page-size", 0)
    return written


def _send_rate(info: Info) -> float:
    """Return bytes per second, 0 if they are not known. QEMU has only the rate of everything, in megabits."""
    measured: float | None = info.get("x-qmon-send-rate")
    return info.get("ram", {}).get("mbps", 0) * 1e6 / 8 if measured is None else measured


def not_converging(advice: Mapping[str, Any]) -> str:
    """Return a line that says why a migration does not converge, and one that names what would help.

    ``advice`` is ``x-qmon-not-converging`` of query-migrate, or the data of the event.
    """
    return f"The migration does not converge: {advice['reason']}\n{what_helps(advice)}"


def what_helps(advice: Mapping[str, Any], *, has_begun: bool = True) -> str:
    """Return what helps against guests that write faster than the line takes: the advice first."""
    line = f"'{advised_line(advice)}' would help"
    if advice["parameter"] == "x-qmon-copy-mode":
        return line
    when = " before it is begun again" if has_begun else ""
    return (
        f"{line}; so would 'migrate_set_parameter x-qmon-copy-mode write-blocking', or"
        f" 'migrate_set_capability auto-converge on'{when}"
    )


def advised_line(advice: Mapping[str, Any]) -> str:
    """Return the line that sets the advised value."""
    parameter, value = advice["parameter"], advice["value"]
    match parameter:
        case "max-bandwidth":
            return f"migrate_set_parameter max-bandwidth {_size(value)}"
        case "bps_wr":
            return f"block_set_io_throttle {advice.get('device', 'DEVICE')} 0 0 {value} 0 0 0"
    return f"migrate_set_parameter {parameter} {value}"


def _size(value: int) -> str:
    """Return a size with a suffix, which a line can have and which is exact."""
    for unit, suffix in ((MIB, "M"), (KIB, "k")):
        if value % unit == 0:
            return f"{value // unit}{suffix}"
    return f"{value}B"


def end(info: Info) -> Iterator[str]:
    """Yield what there is to say about a completed migration, line by line."""
    took = summary(info)
    colon = ":" if "disk" in info else ""
    yield f"Migration completed{colon} {took}" if took else "Migration completed"
    yield from details(info)
    yield from matched_lines(info.get("x-qmon-disks", ()))


def summary(info: Info) -> str:
    """Return how much a completed migration has moved and how long that took, "" if that is not known.

    For example ``8 MiB in 0.2 s, downtime 5 ms``.
    """
    if "total-time" not in info:  # of one that a restart has interrupted, only the rest is known
        sent = info.get("disk", {}).get("transferred")
        return f"{human_size(sent)} since this machine was restarted" if sent else ""
    took = f"in {info['total-time'] / 1000:.1f} s"
    if "downtime" in info:
        took += f", downtime {info['downtime']} ms"
    disk = info.get("disk")
    if disk and moves_guest(info):
        memory = human_size(info.get("ram", {}).get("transferred", 0))
        return f"{human_size(disk['transferred'])} of disks, {memory} of memory {took}"
    return f"{human_size(disk['transferred'])} {took}" if disk else took


def where_guest_runs(info: Info) -> Iterator[str]:
    """Yield where the guest of a QEMU runs after a completed migration; nothing for other migrations."""
    if not moves_guest(info):
        return
    runs = info.get("x-qmon-runs", True)
    if info["x-qmon-side"] == "source":
        where = info.get("x-qmon-peer", "the destination")
        what = "The guest runs at" if runs else "The guest, which was stopped before, is at"
        yield f"{what} {where} now; this machine stays stopped: 'quit' ends it"
    else:
        yield (
            "The guest runs here now"
            if runs
            else "The guest is here now, and was stopped before: 'cont' runs it"
        )


async def where_disks_stay(target: Target, info: Info) -> str:
    """Return that the disks stay here behind a migration that has failed, "" if there is more to say."""
    if not is_ours(info) or moves_guest(info) or info["x-qmon-side"] != "source":
        return ""
    state = await ask(target, "query-status", {"running": False})
    return f"The disks stay here, and this machine {'runs on' if state['running'] else 'is paused'}"


async def where_guest_stays(target: Target, info: Info) -> str:
    """Return where the guest of a QEMU is behind a migration that has failed, "" if that is not known."""
    if not moves_guest(info) or info.get("status") not in ("failed", "cancelled"):
        return ""
    if info["x-qmon-side"] == "destination":
        return "The guest stays at the source"
    try:
        is_running = (await ask(target, "query-status", {})).get("running")
    except QmonError:
        return ""
    return "The guest runs on here" if is_running else "The guest stays here, and does not run"


def matched_lines(disks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield by what the drives of the two sides were matched, as far as that is told."""
    by: dict[str, list[str]] = {}
    for each in disks:
        by.setdefault(each.get("matched-by", ""), []).append(each["drive"])
    for how, drives in by.items():
        if how:
            yield f"Drives matched by {how}: {', '.join(drives)}"


def compared_line(info: Info) -> str | None:
    """Return what was compared by checksums, None if nothing was sent."""
    compared = info.get("x-qmon-compared")
    if not compared or not compared["chunks"]:
        return None
    what = f"{human_size(compared['bytes'])} in {compared['chunks']} chunks"
    return f"Compared: {what}, as sent and as written"


def details(info: Info) -> Iterator[str]:
    """Yield what else there is to say about a completed migration, line by line."""
    yield from where_guest_runs(info)
    if "x-qmon-verified" in info:
        yield f"Verified: {info['x-qmon-verified']}"
    if info.get("x-qmon-unconfirmed"):
        yield unconfirmed_line(info)
    if away := info.get("x-qmon-turned-away"):
        yield turned_away(away, info.get("x-qmon-peer", ""))
    if forwarded := info.get("x-qmon-forwarded"):
        yield forwarded_clients(forwarded, info.get("x-qmon-peer", ""))
    for entry in info.get("x-qmon-stays-behind", ()):
        yield sentence(entry, is_over=True)
    if "x-qmon-unreachable" in info:
        unreachable = info["x-qmon-unreachable"]
        yield not_served(unreachable["drives"], unreachable["nbd-server"])


def unconfirmed_line(info: Info) -> str:
    """Return what to do after a migration whose end nobody has confirmed."""
    text = unconfirmed(is_over="x-qmon-resolved" in info, clients=info.get(WAITING, 0))
    return f"Unconfirmed: {text}"


def forwarded_clients(forwarded: Mapping[str, Any], peer: str) -> str:
    """Return how many clients stay connected here, although their disk is at the destination."""
    clients = forwarded["clients"]
    stays, its, has = ("stays", "its", "it has") if clients == 1 else ("stay", "their", "they have")
    where = _host(peer) or "the destination"
    return (
        f"{clients} client{'s' * (clients != 1)} {stays} connected here: {its} requests go to {where}."
        f" Keep qmon running until {has} left"
    )


def forwarded_figures(forwarded: Mapping[str, Any]) -> str:
    """Return a row's figures, for example ``2 clients, 4711 requests, 3 in flight``."""
    clients, requests = forwarded["clients"], forwarded["requests"]
    return (
        f"{clients} client{'s' * (clients != 1)}, {requests} request{'s' * (requests != 1)},"
        f" {forwarded['in-flight']} in flight"
    )


def turned_away(away: Sequence[Mapping[str, Any]], peer: str) -> str:
    """Return which clients were disconnected at the handover, and where their disk is now."""
    clients = sum(each["clients"] for each in away)
    exports = ", ".join(f"'{each['export']}'" for each in away)
    several, where = len(away) > 1, _host(peer) or "the destination"
    return (
        f"{clients} client{'s' * (clients != 1)} of export{'s' * several} {exports}"
        f" {'was' if clients == 1 else 'were'} disconnected:"
        f" {'the disks are' if several else 'the disk is'} at {where} now. Clients must connect to the"
        f" export{'s' * several} there: export {'them' if several else 'it'} there if you have not yet"
    )


def _host(peer: str) -> str:
    """Return the host in ``tcp:HOST:PORT``, "" without one."""
    kind, _, address = peer.partition(":")
    host = address.rpartition(":")[0]
    return "" if kind != "tcp" or host == "0" else host


def not_served(drives: Sequence[str], is_serving: bool) -> str:
    """Return why guests can't reach some drives that have arrived, and the lines that change it."""
    add = ", ".join(f"'nbd_server_add -w {drive}'" for drive in drives)
    if not is_serving:
        disks = "the disk" if len(drives) == 1 else "the disks"
        return f"No NBD server runs, so guests can't reach {disks}: 'nbd_server_start HOST:10809', then {add}"
    names = ", ".join(f"'{drive}'" for drive in drives)
    if len(drives) == 1:
        return f"No export has drive {names}, so guests can't reach it: {add}"
    return f"No export has the drives {names}, so guests can't reach them: {add}"
