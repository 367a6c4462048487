"""What a guest sees of a node's extents: those left to backing nodes are looked up there."""

from __future__ import annotations

from collections.abc import Iterator

from qmon.block.node import Extent, Kind, Node


def visible_extents(node: Node, offset: int, length: int) -> Iterator[Extent]:
    """Yield the states of a range, in order and without gaps, each DATA or ZERO; neighbours may be alike.

    A file's holes that its format calls data stay data. Raises OSError.
    """
    for extent in node.extents(offset, length):
        if extent.kind is not Kind.BACKING:
            yield extent
            continue
        backing = node.backing
        end = extent.offset if backing is None else max(extent.offset, min(extent.end, backing.size))
        if backing is not None and end > extent.offset:
            yield from visible_extents(backing, extent.offset, end - extent.offset)
        if end < extent.end:
            yield Extent(end, extent.end - end, Kind.ZERO)
