"""What one side has: read from its QEMU by QMP, and told to the other side as a JSON message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from qmon.errors import CommandError
from qmon.qmp.target import Target, ask, well_formed
from qmon.remote.migration.agreement.identity import Known, identities
from qmon.remote.migration.agreement.obstacles import look_for_obstacles
from qmon.remote.migration.agreement.overlay_files import real_name
from qmon.remote.migration.wire.message import Members
from qmon.remote.remote import Remote

DISKS_MAX = 256
OTHERS_MAX = 1000
"""Jobs, exports, capabilities or parameters of one side."""
NAMES_MAX = 2000
"""Commands or machine types of one side: QEMU 10 has about 200 and 100."""
NAME_MAX = 200
IDENTITIES_MAX = 32
MESSAGE_BYTES_MAX = 1 << 20
"""A message that is read. One with 256 disks has about 200 KB."""

_PERIPHERALS = ("/machine/peripheral", "/machine/peripheral-anon")
_OUTSIDE = ("vhost-user-blk", "vhost-user-scsi", "vhost-scsi")

_PERIPHERAL = re.compile(r"/machine/peripheral/([^/]+)(?:/.*)?")


@dataclass(frozen=True, slots=True)
class Disk:
    """A drive as ``query-block`` has it. A text is "" where there is none; ``size`` is in bytes."""

    node: str
    """The name of the top node; "" without a medium."""
    drive_id: str
    """The id of ``-drive``."""
    device_id: str
    """The id that ``-device`` was given."""
    path: str
    """The guest's device that has it, as QEMU names it."""
    device_type: str
    """``virtio-blk-device``, ``scsi-hd``, ..."""
    size: int
    read_only: bool
    removable: bool
    """Whether the medium can be changed, as in a CD-ROM drive."""
    format: str
    file: str
    """What QEMU calls the file, from the root if its folder can be read."""
    backing: str
    """The same of the backing image."""
    backing_format: str
    io_status: str
    is_encrypted: bool
    identities: tuple[str, ...] = ()
    """What tells the disks below it from all others: two drives that share one have the same disk."""
    backing_identities: tuple[str, ...] = ()
    """The same for its backing images."""
    bitmaps: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    """The names of internal snapshots."""

    @property
    def has_medium(self) -> bool:
        return bool(self.node)

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.drive_id or self.device_id or self.node or self.path

    @property
    def is_attached(self) -> bool:
        """Whether a device of the guest has it."""
        return bool(self.path)

    def to_message(self) -> dict[str, Any]:
        return {name.replace("_", "-"): _as_json(value) for name, value in asdict(self).items()}

    @classmethod
    def from_message(cls, value: object) -> Disk:
        """Raises MessageError."""
        read = Members(value, "a disk's description")
        return cls(
            node=read.text("node"),
            drive_id=read.text("drive-id"),
            device_id=read.text("device-id"),
            path=read.text("path"),
            device_type=read.text("device-type"),
            size=read.number("size"),
            read_only=read.flag("read-only"),
            removable=read.flag("removable"),
            format=read.text("format"),
            file=read.text("file", 8192),
            backing=read.text("backing", 8192),
            backing_format=read.text("backing-format"),
            io_status=read.text("io-status"),
            is_encrypted=read.flag("is-encrypted"),
            identities=read.texts("identities", IDENTITIES_MAX),
            backing_identities=read.texts("backing-identities", IDENTITIES_MAX),
            bitmaps=read.texts("bitmaps", OTHERS_MAX),
            snapshots=read.texts("snapshots", OTHERS_MAX),
        )


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one side has, as far as a migration depends on it."""

    version: tuple[int, int, int] = (0, 0, 0)
    """QEMU's; zeros if it is not known."""
    status: str = ""
    """The run state; "" without a machine."""
    migration: str = ""
    """The status of QEMU's migration; "" if there was none."""
    blockers: tuple[str, ...] = ()
    """Why QEMU itself would refuse to send the guest."""
    outside: tuple[str, ...] = ()
    """Devices with disks that QEMU does not see, each as ``ID (TYPE)``."""
    is_listening: bool = False
    """Whether QEMU waits for a migration at an address of its own."""
    machine: str = ""
    """The machine type without an alias, ``pc-i440fx-7.2``."""
    memory: int = 0
    """The guest's memory in bytes."""
    cpus: int = 0
    uuid: str = ""
    disks: tuple[Disk, ...] = ()
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    parameters: Mapping[str, str | int | bool] = field(default_factory=dict)
    jobs: tuple[str, ...] = ()
    """Each as ``ID (TYPE)``."""
    exports: tuple[str, ...] = ()
    """Each as ``ID of NODE``."""
    commands: frozenset[str] = frozenset()
    machines: frozenset[str] = frozenset()
    """The machine types that this QEMU knows."""
    obstacles: tuple[str, ...] = ()
    """Why this side can't take part at all: its connection or its manager. Each is a whole line."""

    def to_message(self) -> dict[str, Any]:
        """Return what ``from_message`` reads, built of JSON's types."""
        told = {each.name.replace("_", "-"): _as_json(getattr(self, each.name)) for each in fields(self)}
        return {**told, "disks": [each.to_message() for each in self.disks]}

    @classmethod
    def from_message(cls, value: object) -> Inventory:
        """Read what the other side has told. Raises MessageError; members that are not known are ignored."""
        read = Members(value, "the other side's description")
        version = read.each(
            "version", 3, lambda each: int(Members({"part": each}, "a version").number("part"))
        )
        major, minor, micro = (*version, 0, 0, 0)[:3]
        return cls(
            version=(major, minor, micro),
            status=read.text("status"),
            migration=read.text("migration"),
            blockers=read.texts("blockers", OTHERS_MAX),
            outside=read.texts("outside", OTHERS_MAX),
            is_listening=read.flag("is-listening"),
            machine=read.text("machine"),
            memory=read.number("memory"),
            cpus=read.number("cpus"),
            uuid=read.text("uuid"),
            disks=read.each("disks", DISKS_MAX, Disk.from_message),
            capabilities=read.flags("capabilities", OTHERS_MAX),
            parameters=read.scalars("parameters", OTHERS_MAX),
            jobs=read.texts("jobs", OTHERS_MAX),
            exports=read.texts("exports", OTHERS_MAX),
            commands=frozenset(read.texts("commands", NAMES_MAX, NAME_MAX)),
            machines=frozenset(read.texts("machines", NAMES_MAX, NAME_MAX)),
            obstacles=read.texts("obstacles", OTHERS_MAX),
        )


def _as_json(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value


async def take_inventory(remote: Remote) -> Inventory:
    """Ask a QEMU for all that it has. Nothing is changed. Raises CommandError."""
    obstacles = await look_for_obstacles(remote)
    known = await identities(remote, remote.peer_pid)
    version = await ask(remote, "query-version", {})
    status = await ask(remote, "query-status", {})
    migration = await ask(remote, "query-migrate", {})
    machines = await ask(remote, "query-machines", [])
    blocks = await ask(remote, "query-block", [])
    memory = await ask(remote, "query-memory-size-summary", {})
    cpus = await ask(remote, "query-cpus-fast", [])
    uuid = await ask(remote, "query-uuid", {})
    capabilities = await ask(remote, "query-migrate-capabilities", [])
    parameters = await ask(remote, "query-migrate-parameters", {})
    jobs = await ask(remote, "query-jobs", [])
    exports = await ask(remote, "query-block-exports", [])
    with well_formed():
        return Inventory(
            version=_version(version),
            status=status.get("status", ""),
            migration=migration.get("status", ""),
            is_listening="socket-address" in migration,
            machine=(await _type(remote, "/machine")).removesuffix("-machine"),
            blockers=tuple(migration.get("blocked-reasons", ())),
            outside=tuple(await _outside(remote)),
            memory=memory.get("base-memory", 0) + memory.get("plugged-memory", 0),
            cpus=len(cpus),
            uuid=uuid.get("UUID", ""),
            disks=tuple([await _disk(remote, each, known) for each in blocks]),
            capabilities={row["capability"]: row["state"] for row in capabilities},
            parameters={name: value for name, value in parameters.items() if isinstance(value, str | int)},
            jobs=tuple(f"{job['id']} ({job['type']})" for job in jobs),
            exports=tuple(f"{export['id']} of {export['node-name']}" for export in exports),
            commands=remote.commands(),
            machines=frozenset(row["name"] for row in machines),
            obstacles=obstacles,
        )


def _version(answer: Mapping[str, Any]) -> tuple[int, int, int]:
    qemu = answer.get("qemu", {})
    return qemu.get("major", 0), qemu.get("minor", 0), qemu.get("micro", 0)


async def _type(target: Target, path: str) -> str:
    """Return the type of an object of QEMU's; "" if it can't be asked for."""
    if not path or "qom-get" not in target.commands():
        return ""
    try:
        return str(await target.execute("qom-get", {"path": path, "property": "type"}))
    except CommandError:
        return ""


def _path(qdev: str) -> str:
    """Return the path of a guest's device, which ``query-block`` names by its id or its path."""
    return qdev if "/" in qdev or not qdev else f"{_PERIPHERALS[0]}/{qdev}"


async def _outside(target: Target) -> list[str]:
    """Return the devices whose disks QEMU does not see, each as ``ID (TYPE)``."""
    found = []
    for folder in _PERIPHERALS:
        for each in await ask(target, "qom-list", [], {"path": folder}):
            kind = each["type"].removeprefix("child<").removesuffix(">")
            if kind.startswith(_OUTSIDE):
                found.append(f"{each['name']} ({kind})")
    return found


async def _disk(remote: Remote, block: Mapping[str, Any], known: Mapping[str, Known]) -> Disk:
    inserted = block.get("inserted", {})
    image = inserted.get("image", {})
    qdev = block.get("qdev", "")
    found = known.get(inserted.get("node-name", ""), Known())
    return Disk(
        node=inserted.get("node-name", ""),
        drive_id=block.get("device", ""),
        device_id=_device_id(qdev),
        path=qdev,
        device_type=await _type(remote, _path(qdev)),
        size=image.get("virtual-size", 0),
        read_only=inserted.get("ro", False),
        removable=block.get("removable", False),
        format=inserted.get("drv", ""),
        file=real_name(inserted.get("file", ""), remote.peer_pid),
        backing=real_name(
            image.get("full-backing-filename", inserted.get("backing_file", "")), remote.peer_pid
        ),
        backing_format=image.get("backing-image", {}).get("format", ""),
        io_status=block.get("io-status", ""),
        is_encrypted=inserted.get("encrypted", False),
        identities=found.own[:IDENTITIES_MAX],
        backing_identities=found.backing[:IDENTITIES_MAX],
        bitmaps=tuple(each.get("name", "") for each in inserted.get("dirty-bitmaps", ())),
        snapshots=tuple(each["name"] for each in image.get("snapshots", ())),
    )


def _device_id(qdev: str) -> str:
    """Return the id that a device was given, from its path or from the id itself; "" if it has none."""
    if named := _PERIPHERAL.fullmatch(qdev):
        return named[1]
    return "" if "/" in qdev else qdev
