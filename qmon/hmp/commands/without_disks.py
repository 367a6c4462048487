"""Warns before a QEMU's own migration, which copies no disk: a guest must not arrive on an empty one."""

from __future__ import annotations

from typing import Any

from qmon.hmp.commands.caution import confirm
from qmon.hmp.handlers import Call
from qmon.qmp.target import MIGRATE_DISKS, ask, well_formed

_SENDS = ("tcp:", "unix:", "vsock:", "rdma:", "x-rdma:", "exec:", "fd:")
"""Addresses from which another QEMU may take the guest. ``file:`` keeps its state."""

_NO_DISK = "No disk is copied: the destination must use the same disks already"
_OWN_IMAGES = "With images of its own: 'migrate blk {uri}'"


async def warn_of_disks(call: Call) -> None:
    """Ask at a terminal, warn in a script, if the guest has a disk to lose. Raises LineError for a no."""
    uri = call.text("uri")
    if not uri.startswith(_SENDS) or any(map(call.flag, ("blk", "inc", "resume"))):
        return
    blocks = await ask(call.monitor.line_target, "query-block", [])
    with well_formed():
        if not any(map(_is_guests_disk, blocks)):
            return
    can_copy = call.has(MIGRATE_DISKS) and uri.startswith(("tcp:", "unix:"))
    text = f"{_NO_DISK}. {_OWN_IMAGES.format(uri=uri)}" if can_copy else _NO_DISK
    call.warn(text)
    await confirm(call, "Migrate without the disks?", "Nothing was migrated")


def _is_guests_disk(block: dict[str, Any]) -> bool:
    """Whether a BlockInfo (qapi/block-core.json) is a disk that the guest can write to."""
    return "qdev" in block and "inserted" in block and not block["inserted"]["ro"]
