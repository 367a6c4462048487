"""``-drive``: its keys, and the ids that drives get when none is given, as QEMU's blockdev.c has both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qmon.errors import UsageError
from qmon.notation.drive_keys import (
    check_values,
    is_known_key,
    read_group,
    read_limits,
    without_effect,
)
from qmon.notation.keyval import (
    is_identifier,
    parse_keyval,
    parse_number,
    parse_switch,
)
from qmon.notation.node_names import refusal

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


@dataclass(frozen=True, slots=True)
class DriveOptions:
    """One drive of the command line; ``format`` is None where it is to be probed."""

    file: str
    id: str
    format: str | None = None
    interface: str = DEFAULT_INTERFACE
    read_only: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    """By the names of QAPI's ThrottleLimits."""
    group: str | None = None
    node_name: str | None = None


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
        for key in keys:
            if not is_known_key(key):
                format = keys.get("format", keys.get("driver", "raw"))
                raise UsageError(f"Block format '{format}' does not support the option '{key}'")
        self.ignored += without_effect(keys)
        self.add_options(keys)

    def add_options(self, options: dict[str, str]) -> None:
        """Add a drive by its keys, all of them known. Raises UsageError with QEMU's words."""
        given_id = options.get("id")
        if given_id is not None:
            self._take_id(given_id)
        interface = options.get("if", DEFAULT_INTERFACE)
        if interface not in UNITS_PER_BUS:
            raise UsageError(f"unsupported bus type '{interface}'")
        check_values(options)
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
        node_name = options.get("node-name")
        nodes = {drive.node_name for drive in self.drives if drive.node_name is not None}
        refused = refusal(node_name, name, nodes, {drive.id for drive in self.drives})
        if refused is not None:
            raise UsageError(refused)
        limits, group = read_limits(options), read_group(options)
        self.drives.append(DriveOptions(file, name, format, interface, read_only, limits, group, node_name))

    def _take_id(self, given_id: str) -> None:
        if not is_identifier(given_id):
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
    return None if value is None else parse_number(key, value)
