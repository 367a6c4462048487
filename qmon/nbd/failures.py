"""Failed requests: turns a disk's error into an NBD error, counts it and logs it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping

from qmon.block.accounts import Counters
from qmon.errors import as_os_error, reason
from qmon.nbd.constants import Command, Error
from qmon.nbd.export import Export

log = logging.getLogger("qmon.nbd")

_READING = frozenset((Command.READ, Command.BLOCK_STATUS))

_ERRORS: Mapping[int | None, Error] = {
    errno.EPERM: Error.EPERM,
    errno.EACCES: Error.EPERM,
    errno.EROFS: Error.EPERM,
    errno.ENOMEM: Error.ENOMEM,
    errno.EINVAL: Error.EINVAL,
    errno.ENOSPC: Error.ENOSPC,
    errno.EDQUOT: Error.ENOSPC,
    errno.EFBIG: Error.ENOSPC,
    errno.ESHUTDOWN: Error.ESHUTDOWN,
}
_FAILED: Mapping[int, str] = {
    Command.READ: "failed_rd_operations",
    Command.WRITE: "failed_wr_operations",
    Command.WRITE_ZEROES: "failed_wr_operations",
    Command.TRIM: "failed_unmap_operations",
    Command.FLUSH: "failed_flush_operations",
}
"""The counter of failed requests of each command."""


class Failures:
    """The failed requests of one connection; used by its thread only."""

    def __init__(self, export: Export, counters: Counters) -> None:
        self._export = export
        self._counters = counters
        self._told: set[int | None] = set()

    def tell(self, raised: OSError | MemoryError, command: int, offset: int, length: int) -> int:
        """Return the NBD error value for a node's exception; log each errno once."""
        failure = as_os_error(raised)
        figure = _FAILED.get(command)
        if figure is not None:
            setattr(self._counters, figure, getattr(self._counters, figure) + 1)
        self._export.failed(command in _READING, failure)
        level = logging.DEBUG if failure.errno in self._told else logging.WARNING
        self._told.add(failure.errno)
        where = f"export '{self._export.name}': {Command(command).name} at {offset} of {length} bytes"
        log.log(level, "%s: %s", where, reason(failure))
        return _ERRORS.get(failure.errno, Error.EIO)
