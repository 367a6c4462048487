"""Leaves out the flushes of a disk whose content nobody needs after the process has ended."""

from __future__ import annotations

from qmon.block.node import WriteFilter, WriteNow
from qmon.block.transfers import Start, starter


class UnflushedFilter(WriteFilter):
    """Passes on all requests but flushes."""

    @property
    def write_now(self) -> WriteNow | None:
        return self.child.write_now

    @property
    def start(self) -> Start | None:
        return starter(self.child)

    def flush(self) -> None:
        """Do nothing."""
