"""The metadata contexts of an export: what NBD_CMD_BLOCK_STATUS can tell of a range.

doc/proto.md, "Metadata querying"; the contexts of the namespace ``qemu:`` are QEMU's (docs/interop/nbd.rst).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from qmon.block.bitmaps import DirtyBitmap
from qmon.block.extents import allocation_depths, visible_extents
from qmon.block.node import Kind, Node
from qmon.nbd.constants import ALLOCATION_CONTEXT, State

_WILDCARDS = frozenset(("base:", "qemu:", "qemu:dirty-bitmap:"))
"""Queries that list all contexts of which they are the beginning."""

_LENGTH = struct.Struct(">Q")
_ID = struct.Struct(">I")

_STATUS: Mapping[Kind, int] = {
    Kind.DATA: 0,
    Kind.ZERO: int(State.HOLE | State.ZERO),
}


class Context(Protocol):
    """One context of an export."""

    @property
    def name(self) -> str:
        """Its whole name."""

    def runs(self, node: Node, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield (length, status) of a range, in order; neighbours may have one status. Raises OSError."""


class Allocation:
    """``base:allocation``: which parts are data, and which are known to be zeros."""

    name = ALLOCATION_CONTEXT

    def runs(self, node: Node, offset: int, length: int) -> Iterator[tuple[int, int]]:
        for extent in visible_extents(node, offset, length):
            yield extent.length, _STATUS[extent.kind]


class Depth:
    """``qemu:allocation-depth``: how many images above hold nothing of a part."""

    name = "qemu:allocation-depth"

    def runs(self, node: Node, offset: int, length: int) -> Iterator[tuple[int, int]]:
        return allocation_depths(node, offset, length)


class Dirty:
    """``qemu:dirty-bitmap:NAME``: which parts a bitmap marks."""

    def __init__(self, bitmap: DirtyBitmap) -> None:
        self.name = f"qemu:dirty-bitmap:{bitmap.name}"
        self._bitmap = bitmap

    def runs(self, node: Node, offset: int, length: int) -> Iterator[tuple[int, int]]:
        end = offset
        for start, run, is_dirty in self._bitmap.runs(offset, length):
            yield run, int(is_dirty)
            end = start + run
        if end < offset + length:
            yield offset + length - end, 1  # the bitmap does not know


ALLOCATION = Allocation()


def selected(contexts: Iterable[Context], queries: Iterable[str]) -> Iterator[tuple[int, Context]]:
    """Yield those contexts that queries name, with their ids."""
    names = set(queries)
    return ((id, each) for id, each in enumerate(contexts, 1) if each.name in names)


def listed(contexts: Iterable[Context], queries: Iterable[str]) -> Iterator[tuple[int, Context]]:
    """Yield those contexts that queries name, or whose beginning they name; without a query all.

    The ids of a list are 0.
    """
    asked = set(queries)
    beginnings = tuple(asked & _WILDCARDS)
    for each in contexts:
        if not asked or each.name in asked or each.name.startswith(beginnings):
            yield 0, each


def chosen(
    contexts: Sequence[tuple[int, Context]], payload: memoryview
) -> tuple[int, tuple[tuple[int, Context], ...]] | None:
    """Return the effect length and the contexts that the payload of a BLOCK_STATUS request names.

    None if it is not a length and one or more ids, each that of another selected context.
    """
    count, rest = divmod(len(payload) - _LENGTH.size, _ID.size)
    if rest or not 0 < count <= len(contexts):
        return None
    (length,) = _LENGTH.unpack_from(payload)
    ids = {id for (id,) in _ID.iter_unpack(payload[_LENGTH.size :])}
    found = tuple((id, each) for id, each in contexts if id in ids)
    return (length, found) if len(found) == count else None
