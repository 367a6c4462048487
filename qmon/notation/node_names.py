"""What a block node may be called when somebody names it (QEMU: bdrv_assign_node_name in block.c)."""

from __future__ import annotations

from collections.abc import Container

from qmon.notation.keyval import is_identifier

MAX_LENGTH = 31


def refusal(name: str | None, device: str, nodes: Container[str], devices: Container[str]) -> str | None:
    """Why ``device`` can't come with a node called ``name``, in QEMU's words; None where it can.

    ``nodes`` and ``devices`` are the names that there are. A node that nobody names gets one that fits.
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
