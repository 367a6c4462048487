"""A threshold: tells when a node is written beyond an offset, as thin storage under it may have to grow."""

from __future__ import annotations

from collections.abc import Callable

from qmon.block.node import Buffer, Node, WriteFilter


class WriteThreshold:
    """Tells once of a write that ends beyond ``offset`` bytes; then there is no threshold any more (0)."""

    def __init__(self, offset: int, told: Callable[[int, int], None]) -> None:
        """``told(threshold, exceeded)`` is called by the writing thread; both are in bytes."""
        self.offset = offset
        self._told = told

    def check(self, end: int) -> None:
        """Note a write that ends at ``end``."""
        offset = self.offset
        if offset and end > offset:
            self.offset = 0
            self._told(offset, end - offset)


class ThresholdFilter(WriteFilter):
    """Checks what is written to a format's node."""

    def __init__(self, child: Node, threshold: WriteThreshold) -> None:
        super().__init__(child)
        self._threshold = threshold

    def write(self, offset: int, data: Buffer) -> None:
        self._threshold.check(offset + len(data))
        self.child.write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._threshold.check(offset + length)
        self.child.zero(offset, length, unmap=unmap)
