"""Recognizes a QEMU that belongs to libvirt, Proxmox, Incus or LXD: its manager moves the guest, not qmon.

A manager that does not know where its guest has gone starts it again, or ends it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qmon.qmp.target import Target, ask, well_formed
from qmon.remote.migration.recovery.objects import object_names

_LIBVIRT_OBJECT = "masterKey0"
"""The secret that each QEMU of libvirt has."""
_LIBVIRT_NODE = "libvirt-"
_LIBVIRT_SOCKET = "/libvirt/qemu/"
_PROXMOX_SOCKET = re.compile(r"/qemu-server/(\d+)\.qmp\b")
_INCUS_SOCKET = re.compile(r"/(incus|lxd)/.*/qemu\.monitor\b")
_INCUS_NAME = re.compile(r"(?:dev-)?(incus|lxd)_")


@dataclass(frozen=True, slots=True)
class Traits:
    """What a manager's QEMU is recognized by."""

    name: str
    """The machine's, "" without one."""
    objects: Sequence[str]
    chardevs: Sequence[str]
    """What QEMU calls the file or socket of each."""
    nodes: Sequence[str]
    """The names of block nodes, and the ids of devices on them."""


async def look_for_manager(target: Target) -> str:
    """Return why a QEMU's manager must move its guest, "" if it seems to have none. Raises CommandError."""
    return why_managed(await look_for_traits(target))


async def look_for_traits(target: Target) -> Traits:
    """Ask a QEMU for what its manager has given it. Raises CommandError."""
    name = await ask(target, "query-name", {})
    chardevs = await ask(target, "query-chardev", [])
    nodes = await ask(target, "query-named-block-nodes", [])
    blocks = await ask(target, "query-block", [])
    objects = await object_names(target)
    with well_formed():
        return _traits(name, objects, chardevs, nodes, blocks)


def _traits(name: Any, objects: list[str], chardevs: Any, nodes: Any, blocks: Any) -> Traits:
    devices = [block.get("qdev", "").removeprefix("/machine/peripheral/") for block in blocks]
    return Traits(
        name.get("name", ""),
        objects,
        [each["filename"] for each in chardevs],
        [*(each["node-name"] for each in nodes), *devices],
    )


def why_managed(traits: Traits) -> str:
    """Return why a QEMU's manager must move its guest, "" if it seems to have none. Pure."""
    if (
        _LIBVIRT_OBJECT in traits.objects
        or any(each.startswith(_LIBVIRT_NODE) for each in traits.nodes)
        or any(_LIBVIRT_SOCKET in each for each in traits.chardevs)
    ):
        return libvirt(traits.name)
    for each in traits.chardevs:
        if found := _PROXMOX_SOCKET.search(each):
            return (
                f"Proxmox manages this QEMU: 'qm migrate {found[1]} NODE --online --with-local-disks' moves"
                " it with its disks"
            )
    for pattern, texts in ((_INCUS_SOCKET, traits.chardevs), (_INCUS_NAME, traits.nodes)):
        for each in texts:
            if found := pattern.search(each):
                return _incus(found[1], traits.name)
    return ""


def libvirt(domain: str) -> str:
    """Return why a domain of libvirt is moved by libvirt."""
    return (
        f"libvirt manages this QEMU: 'virsh migrate --live --copy-storage-all {_word(domain, 'DOMAIN')}"
        " qemu+ssh://HOST/system' moves it with its disks"
    )


def _incus(daemon: str, name: str) -> str:
    title, client = ("Incus", "incus") if daemon == "incus" else ("LXD", "lxc")
    return (
        f"{title} manages this QEMU: '{client} move {_word(name, 'INSTANCE')} REMOTE:' moves it with its"
        " disks, live if its option migration.stateful is true"
    )


def _word(name: str, otherwise: str) -> str:
    return shlex.quote(name) if name else otherwise
