"""Writethrough: a filter that flushes after each write, so that its reply means stable storage."""

from __future__ import annotations

from qmon.block.node import Buffer, WriteFilter


class WritethroughFilter(WriteFilter):
    """Writes, zeros and discards are followed by a flush."""

    def write(self, offset: int, data: Buffer) -> None:
        self.child.write(offset, data)
        self.child.flush()

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.child.zero(offset, length, unmap=unmap)
        self.child.flush()

    def discard(self, offset: int, length: int) -> None:
        self.child.discard(offset, length)
        self.child.flush()
