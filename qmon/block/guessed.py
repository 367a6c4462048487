"""Protects a raw disk whose format was probed, not given, from looking like another format.

A guest could write a qcow2 header into its first sector. At the next start the host would probe qcow2, and
open the backing file that the header names, which may be any file of the host.
"""

from __future__ import annotations

import errno

from qmon.block.node import Buffer, Filter
from qmon.block.probe import HEAD_BYTES, format_of


class GuessedRawFilter(Filter):
    """Refuses a write after which probing would find a format other than raw."""

    def write(self, offset: int, data: Buffer) -> None:
        if offset < HEAD_BYTES:
            head = bytearray(min(HEAD_BYTES, self.child.size))
            self.child.read_into(0, memoryview(head))
            part = bytes(memoryview(data)[: len(head) - offset])
            head[offset : offset + len(part)] = part
            found = format_of(bytes(head))
            if found != "raw":
                raise OSError(
                    errno.EPERM, f"can't write a {found} header: the disk was probed as raw, give format=raw"
                )
        self.child.write(offset, data)
