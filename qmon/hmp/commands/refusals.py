"""Why a line can't run on a target that lacks the QMP commands for it, and what does the same there."""

from __future__ import annotations

from qmon.hmp.handlers import HANDLERS, lacks
from qmon.hmp.tables.table import Command
from qmon.qmp.target import Kind, Target, kind_of

_DAEMON = "a storage daemon has no machine"

_COPY = ": drive_mirror copies a disk to another host"
_SNAPSHOT = ": snapshot_blkdev_internal makes a snapshot of a disk"
_MEDIA = "a storage daemon has no devices: drive_add and drive_del change its disks"
_LOG = "a storage daemon's log can't be changed while it runs"

THROTTLING = (
    "a storage daemon limits a disk by a node above it: object_add throttle-group,id=GROUP,x-iops-total=N,"
    " then drive_add -n 0 driver=throttle,node-name=NAME,throttle-group=GROUP,file=DISK"
)

_OF_A_DAEMON: dict[str, str] = {
    **{
        f"hmp_migrate{verb}": _DAEMON + _COPY
        for verb in ("", "_incoming", "_cancel", "_continue", "_pause", "_recover", "_start_postcopy")
    },
    **{f"hmp_{verb}": _DAEMON + _SNAPSHOT for verb in ("savevm", "loadvm", "delvm")},
    **{f"hmp_{verb}": _MEDIA for verb in ("eject", "change", "device_add", "device_del")},
    **{f"hmp_{verb}": _LOG for verb in ("log", "logfile", "trace_event", "info_trace_events", "trace_file")},
    "hmp_block_set_io_throttle": THROTTLING,
    "hmp_qemu_io": "a storage daemon runs no requests: nbd_server_add exports the disk to a client that does",
    "hmp_getfd": "a storage daemon takes no descriptors",
    "hmp_closefd": "a storage daemon takes no descriptors",
}
"""What differs from ``_DAEMON``, by the table's ``.cmd``."""


def refusal(typed: str, command: Command, target: Target) -> str:
    """Return why ``command``, which was typed as ``typed``, does not run on the target."""
    c_name = command.entry.handler
    if c_name is not None and c_name not in HANDLERS:
        return f'Command "{typed}" is not available.'
    if kind_of(target) is Kind.STORAGE_DAEMON:
        return f"{typed}: {_OF_A_DAEMON.get(c_name or '', _DAEMON)}"
    return f"{typed}: {lacks(command.qmp_command or '')}"
