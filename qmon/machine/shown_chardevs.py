"""The character devices as nodes of the tree: where they are kept, each is shown below ``/chardevs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.chardev.base import Chardev
from qmon.machine.hash_order import HashOrdered
from qmon.machine.qom import Node, Property, Tree

CHARDEVS = "/chardevs"
_DISCONNECTED = "disconnected:"


class ShownChardevs(HashOrdered[Chardev]):
    """By label. Adding one raises CommandError for a label that the tree can't hold."""

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self._tree = tree

    def __setitem__(self, label: str, chardev: Chardev) -> None:
        if label in self:
            self._tree.remove_child(CHARDEVS, label)
        self._tree.add_child(CHARDEVS, label, chardev_node(chardev))
        super().__setitem__(label, chardev)

    def __delitem__(self, label: str) -> None:
        super().__delitem__(label)
        self._tree.remove_child(CHARDEVS, label)


def chardev_node(chardev: Chardev) -> Node:
    """What stands in the tree for a character device."""
    properties = {}
    if chardev.kind == "socket":
        properties = {
            "connected": Property("bool", lambda: not chardev.filename.startswith(_DISCONNECTED)),
            "addr": Property("SocketAddress", lambda: _flat(chardev.data["addr"])),
        }
    return Node(f"chardev-{chardev.kind}", properties)


def _flat(address: Mapping[str, Any]) -> dict[str, Any]:
    """A SocketAddressLegacy as a SocketAddress; a listener's port is known once it is open."""
    return {**address["data"], "type": address["type"]}
