"""Which names a person may give to a block node (QEMU: bdrv_assign_node_name in block.c)."""

from __future__ import annotations

from collections.abc import Container

from qmon.notation.keyval import is_identifier

MAX_LENGTH = 31


def refusal(name: str | None, device: str, nodes: Container[str], devices: Container[str]) -> str | None:
    """Return QEMU's message if ``device`` can't be added with a node called ``name``, else None.

    ``nodes`` and ``devices`` are the names in use. ``name`` is None if the machine is to make one.
    """
    if name is not None:
        if not is_identifier(name):
            return f"Invalid node-name: '{name}'"
        if name in devices:
            return f"node-name={name} is conflicting with a device id"
        if name in nodes:
            return f"Duplicate nodes with node-name='{name}'"
        if len(name) > MAX_LENGTH:
            return "Node name too long"
    if device == name or device in nodes:
        return f"Device name '{device}' conflicts with an existing node name"
    return None
