"""Formats a MigrationInfo for ``info migrate``, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qmon.hmp.migration_state import is_in_doubt, is_ours
from qmon.notation.left_behind import sentence
from qmon.notation.units import KIB
from qmon.notation.way_back import WAITING, unconfirmed

_GLOBALS = (
    "globals:",
    "store-global-state: on",
    "only-migratable: off",
    "send-configuration: on",
    "send-section-footer: on",
    "decompress-error-check: on",
    "clear-bitmap-shift: 18",
)

_Row = tuple[str, str, int]
"""Template, field, and the field's divisor; 0: it is not divided and may be a fraction."""

_TIMES: tuple[_Row, ...] = (
    ("expected downtime: {} ms", "expected-downtime", 1),
    ("downtime: {} ms", "downtime", 1),
    ("setup: {} ms", "setup-time", 1),
    ("switchovers that took too long: {}", "x-qmon-overdue-switchovers", 1),
)
_RAM: tuple[_Row, ...] = (
    ("transferred ram: {} kbytes", "transferred", KIB),
    ("throughput: {:.2f} mbps", "mbps", 0),
    ("remaining ram: {} kbytes", "remaining", KIB),
    ("total ram: {} kbytes", "total", KIB),
    ("duplicate: {} pages", "duplicate", 1),
    ("skipped: {} pages", "skipped", 1),
    ("normal: {} pages", "normal", 1),
    ("normal bytes: {} kbytes", "normal-bytes", KIB),
    ("dirty sync count: {}", "dirty-sync-count", 1),
    ("page size: {} kbytes", "page-size", KIB),
    ("multifd bytes: {} kbytes", "multifd-bytes", KIB),
    ("pages-per-second: {}", "pages-per-second", 1),
)
_RAM_IF_ANY: tuple[_Row, ...] = (
    ("dirty pages rate: {} pages", "dirty-pages-rate", 1),
    ("postcopy request count: {}", "postcopy-requests", 1),
    ("precopy ram: {} kbytes", "precopy-bytes", KIB),
    ("downtime ram: {} kbytes", "downtime-bytes", KIB),
    ("postcopy ram: {} kbytes", "postcopy-bytes", KIB),
    ("Zero-copy-send fallbacks happened: {} times", "dirty-sync-missed-zero-copy", 1),
)
_DISK: tuple[_Row, ...] = (
    ("transferred disk: {} kbytes", "transferred", KIB),
    ("remaining disk: {} kbytes", "remaining", KIB),
    ("total disk: {} kbytes", "total", KIB),
)
_XBZRLE: tuple[_Row, ...] = (
    ("cache size: {} bytes", "cache-size", 1),
    ("xbzrle transferred: {} kbytes", "bytes", KIB),
    ("xbzrle pages: {} pages", "pages", 1),
    ("xbzrle cache miss: {} pages", "cache-miss", 1),
    ("xbzrle cache miss rate: {:.2f}", "cache-miss-rate", 0),
    ("xbzrle encoding rate: {:.2f}", "encoding-rate", 0),
    ("xbzrle overflow: {}", "overflow", 1),
)
_COMPRESSION: tuple[_Row, ...] = (
    ("compression pages: {} pages", "pages", 1),
    ("compression busy: {}", "busy", 1),
    ("compression busy rate: {:.2f}", "busy-rate", 0),
    ("compressed size: {} kbytes", "compressed-size", KIB),
    ("compression rate: {:.2f}", "compression-rate", 0),
)


def migration_lines(info: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines for a MigrationInfo (qapi/migration.json).

    ``x-qmon-disks`` is shown if there are several disks, then ``x-qmon-stays-behind``.
    """
    yield from _GLOBALS
    if "blocked-reasons" in info:
        yield "Outgoing migration blocked:"
        yield from (f"  {why}" for why in info["blocked-reasons"])
    if "status" in info:
        yield _state_line(info)
        yield f"total time: {info.get('total-time', 0)} ms"
        yield from _lines(_TIMES, {row[1]: info[row[1]] for row in _TIMES if row[1] in info}, some=True)
    if "ram" in info:
        yield from _lines(_RAM, info["ram"])
        any_of = {field: value for field, value in info["ram"].items() if value}
        yield from _lines(_RAM_IF_ANY, any_of, some=True)
    if "disk" in info:
        yield from _lines(_DISK, info["disk"])
    disks = info.get("x-qmon-disks", [])
    if len(disks) > 1:
        yield from map(_disk_line, disks)
    yield from left_behind_lines(info)
    if info.get("x-qmon-unconfirmed"):
        yield f"unconfirmed: {unconfirmed(is_over='x-qmon-resolved' in info, clients=info.get(WAITING, 0))}"
    if "x-qmon-reads" in info:
        yield f"reading from: {info['x-qmon-reads']}"
    if "xbzrle-cache" in info:
        yield from _lines(_XBZRLE, info["xbzrle-cache"])
    if "compression" in info:
        yield from _lines(_COMPRESSION, info["compression"])
    if "cpu-throttle-percentage" in info:
        yield f"cpu throttle percentage: {info['cpu-throttle-percentage']}"
    if "postcopy-blocktime" in info:
        yield f"postcopy blocktime: {info['postcopy-blocktime']}"
    if "postcopy-vcpu-blocktime" in info:
        yield f"postcopy vcpu blocktime: {','.join(map(str, info['postcopy-vcpu-blocktime']))}"
    if "socket-address" in info:
        yield "socket address: ["
        yield from (f"\t{address_text(each)}" for each in info["socket-address"])
        yield "]"
    if "vfio" in info:
        yield f"vfio device transferred: {info['vfio']['transferred'] // KIB} kbytes"


def left_behind_lines(info: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each image with snapshots or bitmaps that are not copied."""
    is_over = info.get("status") == "completed"
    return (sentence(entry, is_over=is_over) for entry in info.get("x-qmon-stays-behind", ()))


def _state_line(info: Mapping[str, Any]) -> str:
    state = f"Migration status: {info['status']}"
    is_paused = is_ours(info) and info["status"] == "postcopy-paused"
    if "error-desc" in info and (info["status"] == "failed" or is_in_doubt(info) or is_paused):
        state += f" ({info['error-desc']})"
    return state


def _lines(rows: tuple[_Row, ...], fields: Mapping[str, Any], *, some: bool = False) -> Iterator[str]:
    """Yield a line for each row; with ``some`` only for the fields that exist."""
    for template, field, divisor in rows:
        if field in fields or not some:
            value = fields.get(field, 0)
            yield template.format(_unsigned(value // divisor) if divisor else value)


def _unsigned(value: int) -> int:
    """Return a figure as an unsigned number: QEMU has negative ones and prints them so."""
    return value & ((1 << 64) - 1)


def _disk_line(disk: Mapping[str, Any]) -> str:
    fields = [field for field in ("transferred", "remaining", "total") if field in disk]
    figures = ", ".join(f"{field} {disk[field] // KIB}" for field in fields)
    return f"disk '{disk['drive']}': {figures} kbytes"


def address_text(address: Mapping[str, Any]) -> str:
    """Return a SocketAddress (qapi/sockets.json) as text."""
    match address["type"]:
        case "inet":
            return f"tcp:{address['host']}:{address['port']}"
        case "unix":
            return f"unix:{address['path']}"
        case "vsock":
            return f"vsock:{address['cid']}:{address['port']}"
    return f"{address['type']}:{address.get('str', '')}"
