"""Finds the names that only a QEMU has: objects, devices, nodes, CPUs, network cards, the paths of its tree.

No query here changes the QEMU. ``qom-list-types`` does: it loads every module, and a QEMU whose modules are
of another build dies of that. So the types of devices are a list of those that are plugged most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qmon.hmp.commands.yank import name_of
from qmon.hmp.disks import query_disks
from qmon.hmp.editing.place import Choice, Place, behind, unused
from qmon.hmp.editing.target_schema import schema_of
from qmon.qmp.target import at_once

_CHILD = "child<"
_OBJECTS = "/objects"
_DEVICES = "/machine/peripheral"

DEVICE_TYPES = {
    "e1000": "network card",
    "ide-cd": "CD-ROM drive",
    "ide-hd": "disk",
    "nvme": "disk controller",
    "pc-dimm": "memory module",
    "pcie-root-port": "PCI Express port",
    "qemu-xhci": "USB controller",
    "scsi-cd": "CD-ROM drive on a SCSI controller",
    "scsi-hd": "disk on a SCSI controller",
    "usb-host": "USB device of the host",
    "usb-kbd": "keyboard",
    "usb-storage": "USB stick",
    "usb-tablet": "pointer",
    "vfio-pci": "PCI device of the host",
    "virtio-balloon-pci": "memory balloon",
    "virtio-blk-pci": "disk",
    "virtio-net-pci": "network card",
    "virtio-rng-pci": "source of random numbers",
    "virtio-scsi-pci": "SCSI controller",
    "virtio-serial-pci": "controller of serial ports",
    "virtserialport": "serial port, for a guest agent",
}

Rows = Iterable[Mapping[str, Any]]


async def _children(place: Place, path: str) -> list[Choice]:
    """Return the names of the objects below a path, and their types; [] if the path leads nowhere."""
    if not path.startswith("/"):
        return []
    rows: Rows = await place.ask("qom-list", {"path": path})
    return sorted(
        (str(row["name"]), str(row["type"]).removeprefix(_CHILD).removesuffix(">"))
        for row in rows
        if str(row["type"]).startswith(_CHILD)
    )


async def objects(place: Place) -> list[Choice]:
    return await _children(place, _OBJECTS)


async def devices(place: Place) -> list[Choice]:
    return await _children(place, _DEVICES)


async def new_device(place: Place) -> list[Choice]:
    kind, comma, _ = place.typed.partition(",")
    if not comma:
        plugged = {kind: "as one that is plugged" for _, kind in await devices(place)}
        return sorted((plugged | DEVICE_TYPES).items())
    if kind not in DEVICE_TYPES:
        return []
    rows: Rows = await place.ask("device-list-properties", {"typename": kind})
    keys = [(f"{row['name']}=", str(row.get("description") or row["type"])) for row in rows]
    return behind(",", place.typed, unused([("id=", "its name"), *sorted(keys)], place.typed))


async def new_object(place: Place) -> list[Choice]:
    return await _new(place, "object-add")


async def new_netdev(place: Place) -> list[Choice]:
    return await _new(place, "netdev_add")


async def _new(place: Place, command: str) -> list[Choice]:
    """Return the kinds of what a command makes, or the options of the kind that is typed."""
    if place.values:
        return []
    schema = await schema_of(place.target)
    kind, comma, _ = place.typed.partition(",")
    if not comma:
        return sorted((name, "") for name in schema.kinds(command))
    keys = [("id=", "its name"), *sorted((f"{name}=", what) for name, what in schema.options(command, kind))]
    return behind(",", place.typed, unused(keys, place.typed))


async def disks_and_nodes(place: Place) -> list[Choice]:
    """Return the drives, then the nodes that have been given names."""
    disks = [(disk.name, _medium(disk.node)) for disk in await query_disks(place.target) if disk.name]
    flat = {"flat": True} if "query-named-block-nodes" in place.target.commands() else None
    nodes: Rows = await place.ask("query-named-block-nodes", flat)
    named = ((str(node["node-name"]), f"node, {node['drv']}") for node in nodes)
    taken = {name for name, _ in disks}
    return [
        *sorted(disks),
        *sorted(each for each in named if each[0] not in taken and not each[0].startswith("#")),
    ]


def _medium(node: Mapping[str, Any] | None) -> str:
    return "no medium" if node is None else f"{node.get('drv', '')}, {node.get('file', '')}"


async def tree_path(place: Place) -> list[Choice]:
    """Return the objects that may follow in a path of the tree, such as ``/machine/peripheral``."""
    above, slash, _ = place.typed.rpartition("/")
    if not slash:
        return [("/machine", "the machine"), ("/objects", "what object_add has made")]
    return [(f"{above}/{name}", what) for name, what in await _children(place, above or "/")]


async def tree_property(place: Place) -> list[Choice]:
    rows: Rows = await place.ask("qom-list", {"path": str(place.values.get("path"))})
    return sorted(
        (str(row["name"]), str(row["type"])) for row in rows if not str(row["type"]).startswith(_CHILD)
    )


async def cpus(place: Place) -> list[Choice]:
    rows: Rows = await place.ask("query-cpus-fast")
    return [(str(row["cpu-index"]), str(row.get("qom-path", ""))) for row in rows]


async def mice(place: Place) -> list[Choice]:
    rows: Rows = await place.ask("query-mice")
    return [(str(row["index"]), str(row["name"])) for row in rows]


async def cards(place: Place) -> list[Choice]:
    rows: Rows = await place.ask("query-rx-filter")
    return sorted((str(row["name"]), str(row.get("main-mac", ""))) for row in rows)


async def virtio_devices(place: Place) -> list[Choice]:
    rows: Rows = await place.ask("x-query-virtio")
    return sorted((str(row["path"]), str(row["name"])) for row in rows)


async def stuck(place: Place) -> list[Choice]:
    """Return the types, or the names, of the connections that ``yank`` breaks."""
    target = place.target
    query = "query-yank"
    if query not in target.commands():
        return []
    rows: Rows = await at_once(target)(query, None)
    if place.key == "type":
        return sorted({(str(row["type"]), "") for row in rows})
    return sorted(
        (name_of(row), "") for row in rows if row["type"] == place.values.get("type") and name_of(row)
    )


async def parameter_values(place: Place) -> list[Choice]:
    schema = await schema_of(place.target)
    return [(word, "") for word in schema.words("migrate-set-parameters", str(place.values.get("parameter")))]
