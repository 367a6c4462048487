"""What clients of a disk may ask beside its bytes: where zeroing is fast, reading ahead, known holes.

A node need not know any. Filters are passed over: they change nothing about the answer.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from qmon.block.node import Filter


@runtime_checkable
class ZeroesFast(Protocol):
    """A node or file that can tell whether zeroing a range is faster than writing zeros."""

    def zeroes_fast(self, offset: int, length: int, *, unmap: bool) -> bool:
        """Whether ``zero`` with the same arguments writes no data. It changes nothing."""


@runtime_checkable
class Prefetches(Protocol):
    """A node or file that can read ahead."""

    def prefetch(self, offset: int, length: int) -> None:
        """Begin to read a range into the host's page cache; do not wait for it. Raises OSError."""


def knows_holes(node: object) -> bool:
    """Whether a node's extents, and those of what is behind it, take much less time than reading.

    A node says so by an attribute of this name. Checking for a protocol took as long as a small read.
    """
    return bool(getattr(_below_filters(node), "knows_holes", False))


def is_elsewhere(node: object) -> bool:
    """Whether a node has its disk on another host, where what is said of this one's images does not hold.

    A node says so by an attribute of this name.
    """
    return bool(getattr(_below_filters(node), "is_elsewhere", False))


def zeroes_fast(node: object, offset: int, length: int, *, unmap: bool) -> bool:
    """Whether zeroing a range of a node is surely faster than writing zeros. Raises OSError."""
    below = _below_filters(node)
    return isinstance(below, ZeroesFast) and below.zeroes_fast(offset, length, unmap=unmap)


def prefetch(node: object, offset: int, length: int) -> None:
    """Let a node read ahead if it can. Raises OSError."""
    below = _below_filters(node)
    if isinstance(below, Prefetches):
        below.prefetch(offset, length)


def _below_filters(node: object) -> object:
    while isinstance(node, Filter):
        node = node.child
    return node
