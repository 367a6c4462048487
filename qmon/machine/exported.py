"""A node that the NBD server offers, and the disk that its clients see."""

from __future__ import annotations

from dataclasses import dataclass

from qmon.block.accounts import Accounts
from qmon.block.bitmaps import DirtyBitmap
from qmon.block.gate import Gate
from qmon.block.node import Node
from qmon.block.writethrough import WritethroughFilter
from qmon.machine.conflicts import conflict, used_by_export, used_by_node
from qmon.machine.drive import Drive
from qmon.nbd.export import Disk, Export
from qmon.nbd.server import NbdServer


@dataclass(eq=False, slots=True)
class Exported:
    """An export with its QMP id. ``node`` names a node below the drive's topmost; None: the topmost one."""

    id: str
    export: Export
    drive: Drive
    node: str | None
    server: NbdServer
    bitmaps: list[DirtyBitmap]
    """The bitmaps that it offers. They are busy meanwhile."""
    is_closing: bool = False
    """Whether it was removed, but still has clients."""

    @property
    def node_name(self) -> str:
        """The name of the exported node now."""
        return self.drive.names.shown if self.node is None else self.node


def disk_of(drive: Drive, node: str | None, *, writethrough: bool) -> Disk:
    """Return the disk of an export of a drive's topmost node, or of the node named ``node`` below it.

    With ``writethrough``, or if the drive's cache is not writeback, each write is on stable storage before
    its reply.
    """
    writethrough = writethrough or not drive.settings.caching.writeback
    disk = drive.guest if node is None else _Below(drive, node)
    return _Writethrough(disk) if writethrough else disk


def check_export(drive: Drive, node: str | None, *, writable: bool) -> None:
    """Check that a node can be exported while the drive uses it. Raises CommandError with QEMU's message."""
    format_name, file_name = drive.names.pairs[0]
    if node == file_name != format_name and drive.format != "raw" and not drive.read_only:
        export, user = used_by_export(file_name), used_by_node(format_name, file_name, "file")
        if writable:
            raise conflict(file_name, "write", export, user)
        raise conflict(file_name, "resize", user, export)


class _Below:
    """A node below a drive's topmost one: its requests are no guest's, but they pass the drive's gate."""

    def __init__(self, drive: Drive, name: str) -> None:
        self._drive = drive
        self._name = name
        self.accounts = Accounts()

    @property
    def gate(self) -> Gate:
        return self._drive.gate

    @property
    def node(self) -> Node:
        return self._drive.node_below(self._name)


class _Writethrough:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.gate = disk.gate
        self.accounts = disk.accounts

    @property
    def node(self) -> Node:
        return WritethroughFilter(self._disk.node)
