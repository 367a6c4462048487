"""Devices and networks that are to be added: the machine has no models of either."""

from __future__ import annotations

from typing import Any, Literal

from qmon.errors import CommandError, DeviceNotFoundError
from qmon.machine.machine import Machine
from qmon.machine.qom import Tree
from qmon.notation.keyval import is_identifier
from qmon.qmp.registry import command

DEVICES = "/machine/peripheral"

NetworkBackend = Literal[
    "none",
    "nic",
    "user",
    "tap",
    "l2tpv3",
    "socket",
    "stream",
    "dgram",
    "vde",
    "bridge",
    "hubport",
    "netmap",
    "vhost-user",
    "vhost-vdpa",
]
"""QAPI: NetClientDriver, as far as QEMU 7.2 on Linux knows it."""


def no_device(tree: Tree, id: str) -> CommandError:
    """Why a device is not there: what has its path, from the root or from where devices would be, is none."""
    try:
        tree.resolve(id if id.startswith("/") else f"{DEVICES}/{id}")
    except DeviceNotFoundError:
        return DeviceNotFoundError(id)
    return CommandError(f"{id} is not a hotpluggable device")


class DeviceCommands:
    """Commands of QAPI's qdev.json and net.json."""

    def __init__(self, machine: Machine) -> None:
        self._tree = machine.qom

    @command("device_add")
    async def device_add(
        self, driver: str, bus: str | None = None, id: str | None = None, **options: Any
    ) -> dict[str, Any]:
        _check_id(id)
        raise CommandError(f"'{driver}' is not a valid device model name")

    @command("device_del")
    async def device_del(self, id: str) -> dict[str, Any]:
        """Refuse."""
        raise no_device(self._tree, id)

    @command("netdev_add")
    async def netdev_add(self, id: str, type: NetworkBackend, **options: Any) -> dict[str, Any]:
        """Refuse every type, as a QEMU does that was built without it."""
        _check_id(id)
        raise CommandError(f"network backend '{type}' is not compiled into this binary")

    @command("query-rx-filter")
    async def query_rx_filter(self, name: str | None = None) -> list[dict[str, Any]]:
        if name is not None:
            raise CommandError(f"invalid net client name: {name}")
        return []


def _check_id(id: str | None) -> None:
    if id is not None and not is_identifier(id):
        raise CommandError("Parameter 'id' expects an identifier")
