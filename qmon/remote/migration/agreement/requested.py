"""Reads which disks a source wants to write to, strictly: the source may be a stranger. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.remote.migration.agreement.inventory import DISKS_MAX, Inventory
from qmon.remote.migration.agreement.matching import travels
from qmon.remote.migration.agreement.sides import wrong_with_destination
from qmon.remote.migration.qemu import OURS
from qmon.remote.migration.wire.message import Members


def requested_exports(arguments: Mapping[str, Any], here: Inventory) -> list[tuple[str, str]]:
    """Return the node and the name of each wanted export. Raises CommandError, MessageError.

    ``here`` is what the destination has now: each drive that would be written to must be one that can move.
    """
    if wrong := list(wrong_with_destination(here)):
        raise CommandError("; ".join(wrong))
    found = Members(arguments, "the request").each("exports", DISKS_MAX, _read)
    names = {name for _, name in found}
    if not found or len(names) < len(found) or not all(each.startswith(OURS) for each in names):
        raise CommandError("the names of the exports are not possible")
    disks = sorted(each.node for each in here.disks if travels(each))
    if sorted(node for node, _ in found) != disks:
        raise CommandError("the drives of the destination are not those that it told of")
    return list(found)


def _read(value: object) -> tuple[str, str]:
    export = Members(value, "an export")
    return export.text("node"), export.text("export", 100)
