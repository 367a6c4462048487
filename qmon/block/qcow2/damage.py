"""What happens when an image turns out to be damaged while it is in use."""

from __future__ import annotations

import errno
import logging

from qmon.block.file import FileNode
from qmon.block.qcow2.header import FEATURES, INCOMPATIBLE_OFFSET, Header, Incompatible

log = logging.getLogger("qmon.qcow2")


class Damage:
    """Says once what is wrong with an image, marks it for others, and keeps it from being written."""

    def __init__(self, file: FileNode, header: Header, *, mark: bool) -> None:
        """With ``mark`` the image gets its corrupt bit, which version 2 does not have."""
        self._file = file
        self.incompatible = header.incompatible
        self._mark = mark and header.version >= 3
        self.found = False

    def error(self, what: str) -> OSError:
        """The error that the request which met it ends with."""
        if not self.found:
            self.found = True
            log.error("image '%s' is damaged: %s", self._file.path, what)
            if self._mark:
                bits = FEATURES.pack(self.incompatible | Incompatible.CORRUPT)
                try:
                    self._file.write(INCOMPATIBLE_OFFSET, bits)
                    self._file.flush()
                except OSError as failure:
                    log.error("image '%s' can't be marked as corrupt: %s", self._file.path, failure)
        return OSError(errno.EIO, f"the image is damaged: {what}")
