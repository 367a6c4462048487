"""Keeps a raw disk whose format was only guessed from turning into something else.

A guest that wrote another format's header into its first sector would have the host open, the next time,
whatever file that header names.
"""

from __future__ import annotations

import errno

from qmon.block.node import Buffer, Filter
from qmon.block.probe import HEAD_BYTES, format_of


class GuessedRawFilter(Filter):
    """Refuses a write after which the disk would be taken for another format than raw."""

    def write(self, offset: int, data: Buffer) -> None:
        if offset < HEAD_BYTES:
            head = bytearray(min(HEAD_BYTES, self.child.size))
            self.child.read_into(0, memoryview(head))
            part = bytes(memoryview(data)[: len(head) - offset])
            head[offset : offset + len(part)] = part
            found = format_of(bytes(head))
            if found != "raw":
                raise OSError(errno.EPERM, f"a raw disk whose format was guessed can't begin as {found} does")
        self.child.write(offset, data)
