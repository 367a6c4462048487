"""QEMU's messages about two uses of a node that exclude each other (QEMU: block.c)."""

from __future__ import annotations

from qmon.errors import CommandError


def used_by_export(name: str) -> str:
    """What QEMU calls an export of a node, or a command that works on it."""
    return f"an unnamed block device (uses node '{name}' as 'root' child)"


def used_by_node(user: str, name: str, role: str) -> str:
    """What QEMU calls a node that has another one as its ``file`` or ``backing``."""
    return f"node '{user}' (uses node '{name}' as '{role}' child)"


def conflict(name: str, permissions: str, needs: str, refuses: str) -> CommandError:
    """The error when one user of a node needs permissions that another one does not share."""
    return CommandError(
        f"Permission conflict on node '{name}': permissions '{permissions}' are both required by {needs} and"
        f" unshared by {refuses}."
    )


def backing_of(name: str, overlay: str) -> CommandError:
    """The error when a node can't be changed because it backs another one."""
    return CommandError(f"Node '{name}' is busy: node is used as backing hd of '{overlay}'")
