"""Protects a raw disk whose format was probed, not given, from looking like another format.

A guest could write a qcow2 header into its first sector. At the next start the host would probe qcow2, and
open the backing file that the header names, which may be any file of the host.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from qmon.block.node import Buffer, WriteFilter, WriteNow
from qmon.block.probe import HEAD_BYTES, format_of
from qmon.block.transfers import Start, Transfer, starter


class GuessedRawFilter(WriteFilter):
    """Refuses a write after which probing would find a format other than raw."""

    @property
    def write_now(self) -> WriteNow | None:
        return self._write_now if self.child.write_now else None

    def _write_now(self, offset: int, data: Buffer) -> bool:
        write = self.child.write_now
        return write is not None and offset >= HEAD_BYTES and write(offset, data)

    @property
    def start(self) -> Start | None:
        return self._start if starter(self.child) else None

    def _start(self, transfers: Sequence[Transfer]) -> bool:
        start = starter(self.child)
        is_plain = all(not each.is_write or each.offset >= HEAD_BYTES for each in transfers)
        return start is not None and is_plain and start(transfers)

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
