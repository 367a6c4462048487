"""Reads the options of a drive, from the command line or a monitor (QEMU: drive_new in blockdev.c)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qmon.errors import UsageError
from qmon.notation.caching import MODES, WRITEBACK, Caching, read_caching
from qmon.notation.drive_keys import (
    check_aliases,
    check_values,
    is_known_key,
    read_group,
    read_limits,
    without_effect,
)
from qmon.notation.driver_options import SHARE, check_sharing
from qmon.notation.image_spec import FROM_HEADER, Backing, ImageSpec
from qmon.notation.keyval import (
    IDENTIFIER_HINT,
    is_identifier,
    parse_number,
    parse_switch,
)
from qmon.notation.nbd_names import NBD
from qmon.notation.node_names import refusal
from qmon.notation.node_reader import NodeReader, is_json

FORMATS = ("raw", "qcow2")
DEFAULT_INTERFACE = "ide"
NODE = "node"
"""The interface of a drive that is a block node: its id is the node's name."""

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
"""By interface: how many units a bus has; 0 for no limit."""


@dataclass(frozen=True, slots=True)
class DriveOptions:
    """The options of one drive."""

    id: str
    """Empty if none is given."""
    file: str
    """A path, or a ``json:`` name. Empty for a drive without a medium, or if ``options`` has the file."""
    format: str | None
    """None: qmon probes it."""
    interface: str
    read_only: bool
    limits: Mapping[str, int] = field(default_factory=dict)
    """By the names of QAPI's ThrottleLimits; bytes or requests per second."""
    group: str | None = None
    """The name of the throttle group; None: the drive's id."""
    node_name: str | None = None
    """The name of the topmost node; None: the machine makes one."""
    is_cdrom: bool = False
    index: int | None = None
    bus: int | None = None
    unit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of the image's nodes as they were written, such as ``backing.driver``."""
    backing: Backing = FROM_HEADER
    file_node_name: str | None = None
    is_bare: bool = False
    """Whether the drive is a file's node alone, without a format's node above it."""
    is_shared: bool = False
    """Whether other programs may write the image meanwhile."""
    detect_zeroes: str = "off"
    """As in ImageSpec."""
    file_driver: str | None = None
    qcow2: tuple[tuple[str, Any], ...] = ()
    """qcow2's options and their values, to be checked against the image."""
    caching: Caching = WRITEBACK
    is_temporary: bool = False
    """Whether writes go to a temporary overlay, which is gone when the drive is removed."""
    is_resting: bool = False
    """Whether it is a node that another drive uses, so that it is no drive now."""

    @property
    def is_node(self) -> bool:
        return self.interface == NODE

    @property
    def given_names(self) -> list[str]:
        """The names that were given to the nodes of the topmost image, the lowest node's first."""
        own = (
            self.id if self.has_filter else None,
            None if self.is_bare else self.node_name,
            self.file_node_name,
        )
        return [name for name in own if name is not None][::-1]

    @property
    def given_backing(self) -> list[ImageSpec]:
        """The backing images that were given, topmost first."""
        return list(self.backing.images) if isinstance(self.backing, ImageSpec) else []

    @property
    def has_filter(self) -> bool:
        """Whether a throttle filter's node is on top of the image."""
        return self.is_node and self.group is not None

    @property
    def has_image(self) -> bool:
        return bool(self.file) or self.format == NBD or _names_a_file(self.options)


def of_node(spec: ImageSpec, *, is_resting: bool = False) -> DriveOptions:
    """Return the drive that a node is to become, or would be if no other used it."""
    assert spec.top_name is not None
    drive = DriveOptions(
        spec.top_name, "", None, NODE, spec.read_only, group=spec.group, is_resting=is_resting
    )
    return with_image(drive, spec)


def with_image(drive: DriveOptions, spec: ImageSpec) -> DriveOptions:
    """Return a drive whose image is ``spec``; what was given for the drive itself has precedence."""
    return replace(
        drive,
        file=spec.file,
        format=spec.format if drive.format == NBD else drive.format or spec.format,
        node_name=drive.node_name or spec.name,
        read_only=drive.read_only or spec.read_only,
        options={},
        backing=spec.backing,
        file_node_name=spec.file_name,
        is_bare=spec.is_bare,
        is_shared=spec.is_shared,
        detect_zeroes=drive.detect_zeroes if spec.detect_zeroes == "off" else spec.detect_zeroes,
        file_driver=spec.file_driver,
        qcow2=spec.qcow2,
        caching=drive.caching
        if spec.caching is None
        else replace(spec.caching, writeback=drive.caching.writeback),
    )


def _names_a_file(options: Mapping[str, Any]) -> bool:
    return any(key.startswith("file.") for key in options)


def read_drive(keys: Mapping[str, str], interface: str) -> DriveOptions:
    """Read the keys of a drive and check them in QEMU's order; ``interface`` is the default.

    The machine checks the format and the names later. Raises UsageError with QEMU's message.
    """
    name = keys.get("id")
    if name is not None and not is_identifier(name):
        raise UsageError(f"Parameter 'id' expects an identifier\n{IDENTIFIER_HINT}")
    check_aliases(keys)
    check_values(keys, "cache")
    bus, unit, index = (_read_number(key, keys) for key in ("bus", "unit", "index"))
    read_only = parse_switch("read-only", keys.get("readonly", keys.get("read-only", "off")))
    check_values(keys, "copy-on-read")
    media = keys.get("media", "disk")
    if media not in ("disk", "cdrom"):
        raise UsageError(f"'{media}' invalid media")
    interface = keys.get("if", interface)
    if interface not in UNITS_PER_BUS:
        raise UsageError(f"unsupported bus type '{interface}'")
    if index is not None and (bus or unit is not None):
        raise UsageError("index cannot be used with bus and unit")
    check_values(keys, "stats-account-invalid")
    is_temporary = parse_switch("snapshot", keys.get("snapshot", "off"))
    check_values(keys, "stats-account-failed")
    limits = read_limits(keys)
    check_values(keys, "aio", "detect-zeroes")
    if "format" in keys and "driver" in keys:
        raise UsageError("Cannot specify both 'driver' and 'format'")
    check_values(keys, "werror", "rerror", "cache.no-flush", "cache.writeback", "auto-read-only")
    check_values(keys, "cache.direct", "force-share", "discard")
    check_sharing(keys, read_only=read_only or media == "cdrom")
    file, format = keys.get("file", ""), keys.get("format", keys.get("driver"))
    options = {key: value for key, value in keys.items() if not is_known_key(key)}
    if options and not file and not _names_a_file(options) and format is None:
        raise UsageError("Must specify either driver or file")
    if parse_switch(SHARE, keys.get(SHARE, "off")):
        options[SHARE] = "on"
    drive = DriveOptions(
        id=name or "",
        file=file,
        format=format,
        interface=interface,
        read_only=read_only or media == "cdrom",
        limits=limits,
        group=read_group(keys),
        node_name=keys.get("node-name"),
        is_cdrom=media == "cdrom",
        index=index,
        bus=bus,
        unit=unit,
        options=options,
        is_temporary=is_temporary,
        detect_zeroes=keys.get("detect-zeroes", "off"),
        caching=read_caching(keys, MODES[keys.get("cache", "writeback")]),
    )
    if format is None or format in (*FORMATS, NBD):
        _check_options(drive)
    return drive


def node_options(drive: DriveOptions) -> dict[str, Any]:
    """Return the options of a drive's topmost node and of those below it."""
    own: dict[str, Any] = {} if drive.format is None else {"driver": drive.format}
    if drive.read_only:
        own["read-only"] = True
    if drive.caching.direct:
        own["cache.direct"] = True
    if drive.caching.no_flush:
        own["cache.no-flush"] = True
    return {**drive.options, **own}


def _check_options(drive: DriveOptions) -> list[str]:
    """Check the options of a drive's nodes; return those without effect. Raises UsageError."""
    if not drive.has_image or not (drive.options or drive.format == NBD or is_json(drive.file)):
        return []
    reader = NodeReader(lambda name: ImageSpec(name))  # the machine knows which nodes there are
    reader.read(node_options(drive), drive.file)
    return reader.ignored


class DriveList:
    """Collects the drives of the command line, in order, and gives each its id and its place on a bus."""

    def __init__(self) -> None:
        self.drives: list[DriveOptions] = []
        self.ignored: list[str] = []
        """The keys that were accepted but have no effect."""
        self._places: set[tuple[str, int, int]] = set()
        self._given_ids: set[str] = set()

    def add(self, keys: Mapping[str, str]) -> None:
        """Add a drive by its keys. Raises UsageError, with QEMU's message if QEMU refuses it too."""
        drive = read_drive(keys, DEFAULT_INTERFACE)
        if drive.id in self._given_ids:
            raise UsageError(f"Duplicate ID '{drive.id}' for drive")
        if drive.id:
            self._given_ids.add(drive.id)
        if drive.format not in (None, *FORMATS, NBD):
            raise UsageError(f"Unknown driver '{drive.format}': use {' or '.join(FORMATS)}")
        bus, unit = self._take_place(drive)
        self.ignored += without_effect(keys)
        self.ignored += _check_options(drive)
        if not drive.has_image:
            if not drive.is_cdrom:
                raise UsageError("a drive without an image is not supported: add file=FILE")
            self.ignored.append("media=cdrom without a file")
            return
        name = drive.id or _default_id(drive, bus, unit)
        if any(each.id == name for each in self.drives):
            raise UsageError(f"Device with id '{name}' already exists")
        nodes = {each.node_name for each in self.drives if each.node_name is not None}
        refused = refusal(drive.node_name, name, nodes, {each.id for each in self.drives})
        if refused is not None:
            raise UsageError(refused)
        self.drives.append(replace(drive, id=name))

    def _take_place(self, drive: DriveOptions) -> tuple[int, int]:
        interface, bus, unit = drive.interface, drive.bus or 0, drive.unit
        units = UNITS_PER_BUS[interface]
        if drive.index is not None:
            bus, unit = divmod(drive.index, units) if units else (0, drive.index)
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


def _default_id(drive: DriveOptions, bus: int, unit: int) -> str:
    interface = drive.interface
    kind = ("-cd" if drive.is_cdrom else "-hd") if interface in ("ide", "scsi") else ""
    return f"{interface}{bus}{kind}{unit}" if UNITS_PER_BUS[interface] else f"{interface}{kind}{unit}"


def _read_number(key: str, keys: Mapping[str, str]) -> int | None:
    value = keys.get(key)
    return None if value is None else parse_number(key, value)
