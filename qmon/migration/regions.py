"""Checksums of a disk's regions: both sides of a migration compare them after one was restarted.

Holes are not read, and regions that read as zeros have no checksum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import xxhash

from qmon.block.extents import visible_extents
from qmon.block.node import Kind, Node

REGION = 64 << 10
"""The unit of a comparison, in bytes: what differs in one of them is sent again."""

SUM_SIZE = 16
SUMS = 256
"""The most checksums that are told at once: those of 16 MiB."""

_READ = 1 << 20
_ZEROS = bytes(REGION)

Pulse = Callable[[], None]
"""Called at least once per MiB read; an exception from it ends the work."""


def checksum(content: memoryview) -> bytes:
    """Return the checksum of a region."""
    return xxhash.xxh3_128_digest(content)


def held(node: Node, offset: int, length: int, *, is_overlay: bool) -> Iterator[tuple[int, int]]:
    """Yield (start, end) in bytes of the parts of a range that may hold something, in whole regions.

    Of an overlay: all that is not left to its backing image; else all that is not known to read as zeros.
    Raises OSError.
    """
    extents = node.extents(offset, length) if is_overlay else visible_extents(node, offset, length)
    nothing = Kind.BACKING if is_overlay else Kind.ZERO
    last = offset
    for extent in extents:
        start = max(last, extent.offset // REGION * REGION)
        end = min(offset + length, -(-extent.end // REGION) * REGION)
        if extent.kind is not nothing and start < end:
            yield start, end
            last = end


def sums(node: Node, *, is_overlay: bool, pulse: Pulse) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the number of a region, and the checksums of it and those behind it, at most SUMS at once.

    Regions that are left out hold nothing (``held``) or, except in an overlay, read as zeros. Raises OSError.
    """
    buffer = memoryview(bytearray(_READ))
    first, found = 0, list[bytes]()
    for start, end in held(node, 0, node.size, is_overlay=is_overlay):
        for position in range(start, end, _READ):
            piece = buffer[: min(_READ, end - position)]
            node.read_into(position, piece)
            pulse()
            for at in range(0, len(piece), REGION):
                content, number = piece[at : at + REGION], (position + at) // REGION
                is_left_out = not is_overlay and _ZEROS.startswith(content)
                if found and (is_left_out or number != first + len(found) or len(found) == SUMS):
                    yield first, found
                    found = []
                if not is_left_out:
                    first = first if found else number
                    found.append(checksum(content))
    if found:
        yield first, found
