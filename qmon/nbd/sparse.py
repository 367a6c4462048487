"""Long reads of a disk with holes: what reads as zeros is told, not sent.

doc/proto.md, "Structured reply types": NBD_REPLY_TYPE_OFFSET_HOLE.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from qmon.block import hints
from qmon.block.extents import visible_extents
from qmon.block.node import Kind, Node
from qmon.nbd.plain import PLAIN_BYTES
from qmon.nbd.replies import Replies

MAX_PARTS = 16
"""Chunks for one read, or for a piece of a long one. Each costs the client a header."""

MIN_HOLE = 4096
"""A shorter hole is sent as data."""

_MAX_EXTENTS = 256
"""So many extents are looked at; all behind them is sent as data."""


_MOST_OF_A_HOLE = 64
"""More bytes than any chunk takes besides data."""


class Part(NamedTuple):
    """A part of a read."""

    offset: int
    length: int
    is_hole: bool


def parts_of(node: Node, offset: int, length: int) -> list[Part]:
    """Return the holes of a range and the data between them, in order. Raises OSError.

    A node is not asked if it is far away, or if a filter limits it or makes it fail.
    """
    if length <= PLAIN_BYTES or node.read_now is None or not hints.knows_holes(node):
        return [Part(offset, length, is_hole=False)]
    end = offset + length
    found: list[Part] = []
    position = offset
    for extent in islice(visible_extents(node, offset, length), _MAX_EXTENTS):
        position = extent.end
        _join(found, Part(extent.offset, extent.length, extent.kind is Kind.ZERO))
    folded: list[Part] = []
    for part in found:
        is_hole = part.is_hole and part.length >= MIN_HOLE and len(folded) < MAX_PARTS - 1
        _join(folded, part._replace(is_hole=is_hole))
    if position < end:
        _join(folded, Part(position, end - position, is_hole=False))
    return folded


def read_parts(
    node: Node, replies: Replies, cookie: int, offset: int, length: int, asked: int, *, is_last: bool = True
) -> None:
    """Add a read's chunks, where it fits as a whole. Raises OSError, maybe with some of them added."""
    parts = parts_of(node, offset, length)
    data = sum(part.length for part in parts if not part.is_hole)
    if not replies.has_room(data + (len(parts) - 1) * _MOST_OF_A_HOLE):
        parts = [Part(offset, length, is_hole=False)]
    for number, part in enumerate(parts, 1):
        ends = is_last and number == len(parts)
        if part.is_hole:
            replies.add_hole(cookie, part.offset, part.length, is_last=ends, asked=asked)
        else:
            node.read_into(part.offset, replies.space(part.length))
            replies.add_data(cookie, part.offset, part.length, is_last=ends, asked=asked)


def _join(parts: list[Part], part: Part) -> None:
    if parts and parts[-1].is_hole == part.is_hole:
        parts[-1] = parts[-1]._replace(length=parts[-1].length + part.length)
    else:
        parts.append(part)
