"""``-drive``: its keys, and the ids that drives get when none is given, as QEMU's blockdev.c has both."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qmon.errors import UsageError
from qmon.keyval import parse_keyval, parse_switch

FORMATS = ("raw", "qcow2")
DEFAULT_INTERFACE = "ide"

UNITS_PER_BUS = {
    "none": 0,
    "virtio": 0,
    "ide": 2,
    "scsi": 7,
    "floppy": 0,
    "pflash": 0,
    "mtd": 0,
    "sd": 0,
    "xen": 0,
}
"""The interfaces; 0 where a bus has no end."""

_OUR_KEYS = frozenset(
    (
        "file",
        "id",
        "format",
        "driver",
        "if",
        "readonly",
        "read-only",
        "index",
        "bus",
        "unit",
        "media",
        "snapshot",
    )
)
_IGNORED_KEYS = frozenset(
    (
        *("cache", "cache.direct", "cache.no-flush", "cache.writeback", "aio", "discard", "detect-zeroes"),
        *(
            "copy-on-read",
            "rerror",
            "werror",
            "stats-account-failed",
            "stats-account-invalid",
            "stats-intervals",
        ),
        *("auto-read-only", "force-share", "node-name", "group", "throttling.group"),
        *("bps", "bps_rd", "bps_wr", "bps_max", "bps_rd_max", "bps_wr_max"),
        *("iops", "iops_rd", "iops_wr", "iops_max", "iops_rd_max", "iops_wr_max", "iops_size"),
    )
)
_IGNORED_PREFIX = "throttling."
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")


def is_known_key(key: str) -> bool:
    """Whether ``-drive`` takes a key, with effect or without."""
    return key in _OUR_KEYS or key in _IGNORED_KEYS or key.startswith(_IGNORED_PREFIX)


@dataclass(frozen=True, slots=True)
class DriveOptions:
    """One drive of the command line; ``format`` is None where it is to be probed."""

    file: str
    id: str
    format: str | None = None
    interface: str = DEFAULT_INTERFACE
    read_only: bool = False

    def to_qmp(self) -> dict[str, object]:
        """The arguments of ``x-qmon-drive-add``."""
        arguments: dict[str, object] = {
            "id": self.id,
            "file": self.file,
            "if": self.interface,
            "readonly": self.read_only,
        }
        if self.format is not None:
            arguments["format"] = self.format
        return arguments


class DriveList:
    """The drives in the order of the command line, each with its id and its place on a bus."""

    def __init__(self) -> None:
        self.drives: list[DriveOptions] = []
        self.ignored: list[str] = []
        """The keys that were taken without effect."""
        self._places: set[tuple[str, int, int]] = set()
        self._given_ids: set[str] = set()

    def add(self, text: str) -> None:
        """Add what ``-drive`` was given. Raises UsageError with QEMU's words."""
        keys = parse_keyval(text)
        options = {key: value for key, value in keys.items() if key in _OUR_KEYS}
        for key in keys:
            if not is_known_key(key):
                format = keys.get("format", keys.get("driver", "raw"))
                raise UsageError(f"Block format '{format}' does not support the option '{key}'")
        self.ignored += [key for key in keys if key not in options]
        self.add_options(options)

    def add_options(self, options: dict[str, str]) -> None:
        """Add a drive by its keys, all of them known. Raises UsageError with QEMU's words."""
        given_id = options.get("id")
        if given_id is not None:
            self._take_id(given_id)
        interface = options.get("if", DEFAULT_INTERFACE)
        if interface not in UNITS_PER_BUS:
            raise UsageError(f"unsupported bus type '{interface}'")
        media = options.get("media", "disk")
        if media not in ("disk", "cdrom"):
            raise UsageError(f"'{media}' invalid media")
        format = _read_format(options)
        read_only = _read_read_only(options) or media == "cdrom"
        if parse_switch("snapshot", options.get("snapshot", "off")):
            raise UsageError("snapshot=on is not supported: put an overlay on the image and name it")
        bus, unit = self._take_place(interface, options)
        file = options.get("file", "")
        if not file:
            if media != "cdrom":
                raise UsageError("a drive without an image is not supported: add file=FILE")
            self.ignored.append("media=cdrom without a file")
            return
        name = given_id if given_id is not None else _default_id(interface, bus, unit, media)
        if any(drive.id == name for drive in self.drives):
            raise UsageError(f"Device with id '{name}' already exists")
        self.drives.append(DriveOptions(file, name, format, interface, read_only))

    def _take_id(self, given_id: str) -> None:
        if not _IDENTIFIER.fullmatch(given_id):
            raise UsageError(
                "Parameter 'id' expects an identifier: letters, digits, '-', '.', '_', starting with a letter"
            )
        if given_id in self._given_ids:
            raise UsageError(f"Duplicate ID '{given_id}' for drive")
        self._given_ids.add(given_id)

    def _take_place(self, interface: str, options: dict[str, str]) -> tuple[int, int]:
        index, bus, unit = (_read_number(key, options) for key in ("index", "bus", "unit"))
        units = UNITS_PER_BUS[interface]
        if index is not None:
            if bus or unit is not None:
                raise UsageError("index cannot be used with bus and unit")
            bus, unit = divmod(index, units) if units else (0, index)
        bus = bus or 0
        if unit is None:
            unit = 0
            while (interface, bus, unit) in self._places:
                unit += 1
                if units and unit >= units:
                    bus, unit = bus + 1, 0
        if units and unit >= units:
            raise UsageError(f"unit {unit} too big (max is {units - 1})")
        if (interface, bus, unit) in self._places:
            shown = bus * units + unit if units else unit
            raise UsageError(f"drive with bus={bus}, unit={unit} (index={shown}) exists")
        self._places.add((interface, bus, unit))
        return bus, unit


def _default_id(interface: str, bus: int, unit: int, media: str) -> str:
    kind = ("-cd" if media == "cdrom" else "-hd") if interface in ("ide", "scsi") else ""
    return f"{interface}{bus}{kind}{unit}" if UNITS_PER_BUS[interface] else f"{interface}{kind}{unit}"


def _read_format(options: dict[str, str]) -> str | None:
    if "format" in options and "driver" in options:
        raise UsageError("Cannot specify both 'driver' and 'format'")
    format = options.get("format", options.get("driver"))
    if format is not None and format not in FORMATS:
        raise UsageError(f"Unknown driver '{format}': use {' or '.join(FORMATS)}")
    return format


def _read_read_only(options: dict[str, str]) -> bool:
    if "readonly" in options and "read-only" in options:
        raise UsageError("'read-only' and its alias 'readonly' can't be used at the same time")
    return parse_switch("read-only", options.get("readonly", options.get("read-only", "off")))


def _read_number(key: str, options: dict[str, str]) -> int | None:
    value = options.get(key)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise UsageError(f"Parameter '{key}' expects a number")
    return int(value, 0) if value[:2].lower() == "0x" else int(value)
