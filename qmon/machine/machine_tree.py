"""The objects that the machine has by itself: those of QEMU's machine ``none``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qmon.machine.memory_backend import memory_region
from qmon.machine.qom import CONTAINER, Node, Property, Tree
from qmon.notation.visit import (
    Integer,
    Kind,
    Switch,
    Text,
)

MACHINE_TYPE = "none-machine"

_SMP = ("cpus", "maxcpus", "threads", "cores", "dies", "sockets", "clusters")
_ADDRESS_SPACE_BYTES = (1 << 64) - 1
_PORT_SPACE_BYTES = 1 << 16

MACHINE_PROPERTIES: tuple[tuple[str, str, Any], ...] = (
    ("kernel", "string", ""),
    ("dt-compatible", "string", ""),
    ("boot", "BootConfiguration", {"order": ""}),
    ("memory", "MemorySizeConfiguration", {"size": 0}),
    ("initrd", "string", ""),
    ("confidential-guest-support", "link<confidential-guest-support>", ""),
    ("graphics", "bool", True),
    ("usb", "bool", False),
    ("firmware", "string", ""),
    ("memory-encryption", "string", ""),  # names a guard that no machine here has: not to be set
    ("smp", "SMPConfiguration", dict.fromkeys(_SMP, 1)),
    ("dump-guest-core", "bool", True),
    ("phandle-start", "int", 0),
    ("dumpdtb", "string", ""),
    ("memory-backend", "link<memory-backend>", ""),
    ("dtb", "string", ""),
    ("mem-merge", "bool", True),
    ("append", "string", ""),
    ("suppress-vmdesc", "bool", False),
)
"""Name, type and value; strings, numbers and switches can be set, for nobody heeds them."""

_PLAIN_KINDS: dict[str, Kind] = {"string": Text(), "bool": Switch(), "int": Integer()}

_BUS_PROPERTIES = (("realized", "bool", True), ("hotplug-handler", "link<hotplug-handler>", ""))


def machine_tree() -> Tree:
    """The tree as it is before anything is added."""
    tree = Tree()
    machine = tree.root.add("machine", Node(MACHINE_TYPE, _kept(MACHINE_PROPERTIES)))
    for name in ("unattached", "peripheral", "peripheral-anon"):
        machine.add(name, Node(CONTAINER))
    tree.container("/chardevs")
    unattached = machine.children["unattached"]
    unattached.add("sysbus", Node("System", _kept(_BUS_PROPERTIES)))
    unattached.add("system[0]", memory_region(_ADDRESS_SPACE_BYTES))
    unattached.add("io[0]", memory_region(_PORT_SPACE_BYTES))
    return tree


def _kept(rows: tuple[tuple[str, str, Any], ...]) -> dict[str, Property]:
    """Properties that keep what they are set to."""
    values = {name: value for name, shown, value in rows}
    found = {}
    for name, shown, _ in rows:
        read, write = _keeper(values, name)
        kind = None if name == "memory-encryption" else _PLAIN_KINDS.get(shown)
        found[name] = Property(shown, read, kind, write if kind else None)
    return found


def _keeper(values: dict[str, Any], name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: values[name], lambda value: values.__setitem__(name, value)
