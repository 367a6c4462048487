"""Writes of zeros: a filter that finds them, so that they need no storage."""

from __future__ import annotations

from qmon.block.node import Buffer, Node, WriteFilter


class DetectZeroesFilter(WriteFilter):
    """Passes a write of zeros on as ``zero``; with ``unmap`` its storage may be freed."""

    def __init__(self, child: Node, *, unmap: bool) -> None:
        super().__init__(child)
        self._unmap = unmap

    def write(self, offset: int, data: Buffer) -> None:
        if bytes(data).count(0) == len(data):
            self.child.zero(offset, len(data), unmap=self._unmap)
        else:
            self.child.write(offset, data)
