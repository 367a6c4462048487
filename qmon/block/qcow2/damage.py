"""Handles damage that is found in an image while it is in use."""

from __future__ import annotations

import errno
import logging

from qmon.block.image_file import ImageFile
from qmon.block.qcow2.header import FEATURES, INCOMPATIBLE_OFFSET, Header, Incompatible

log = logging.getLogger("qmon.qcow2")


class Damage:
    """Logs an image's damage once, sets its corrupt bit, and stops writes to it."""

    def __init__(self, file: ImageFile, header: Header, *, mark: bool) -> None:
        """``mark``: set the corrupt bit, if the image's version has one (version 2 has none)."""
        self._file = file
        self.incompatible = header.incompatible
        self._mark = mark and header.version >= 3
        self.found = False

    def error(self, what: str) -> OSError:
        """Note the damage; return the error for the request that found it."""
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
