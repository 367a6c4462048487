"""The extents of a whole chain: what a guest sees, and how deep it lies."""

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


def allocation_depths(node: Node, offset: int, length: int, depth: int = 1) -> Iterator[tuple[int, int]]:
    """Yield (length, depth) of a range in order: 1 for what the node holds itself, 2 for its backing node.

    The depth is 0 where no node holds anything. Past the end of a shorter backing node it is that node's, as
    in QEMU. Raises OSError.
    """
    for extent in node.extents(offset, length):
        backing = node.backing
        if extent.kind is not Kind.BACKING:
            yield extent.length, depth
        elif backing is None:
            yield extent.length, 0
        else:
            end = max(extent.offset, min(extent.end, backing.size))
            if end > extent.offset:
                yield from allocation_depths(backing, extent.offset, end - extent.offset, depth + 1)
            if end < extent.end:
                yield extent.end - end, depth + 1
