"""The extents that a guest sees: BACKING extents are resolved to those of the backing node."""

from __future__ import annotations

from collections.abc import Iterator

from qmon.block.node import Extent, Kind, Node


def visible_extents(node: Node, offset: int, length: int) -> Iterator[Extent]:
    """Yield the extents of a range in order and without gaps, each DATA or ZERO.

    Neighbours may be of one kind. Clusters that a format marks as data stay DATA, even if they are holes in
    the file. Raises OSError.
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
