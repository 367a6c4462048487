"""Estimates how much of a drive a copy would send, from its extents and random samples of its data.

Extents tell which ranges are data, but data may be stored zeros, which are sent as a length. Samples tell how
much of the data that is, so the lower bound holds but for one case in a million.
"""

from __future__ import annotations

import bisect
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from qmon.block.node import Extent, Kind, Node
from qmon.migration.source.copy import ZERO_PIECE
from qmon.migration.wire.offer import Amount

PIECE = ZERO_PIECE
"""A sample's bytes: what a copy sends, or leaves out as zeros, as a whole."""

BLOCK = 4 << 10
"""The least that a file system stores."""

MAX_EXTENTS = 1 << 16
"""The most extents in memory; in an image with more, samples are taken from the first ones."""

_DOUBT = 1e-6
"""How likely the lower bound may be wrong."""

_ZEROS = bytes(PIECE)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes of data that a copy sends: the likely number, and bounds."""

    likely: int
    amount: Amount


def estimate(
    node: Node,
    extents: Iterable[Extent],
    *,
    samples: int,
    seconds: float,
    chance: random.Random,
    pulse: Callable[[], None],
) -> Estimate:
    """Estimate the data in the extents of a node that are DATA; ``extents`` cover the node in order.

    It takes about ``seconds`` at most. If that is too short, or a sample can't be read, the bounds are wider.
    ``pulse`` is called often. Raises OSError if the extents can't be read.
    """
    until = time.monotonic() + seconds
    found: list[Extent] = []
    data = reached = 0
    for extent in extents:
        reached = extent.end
        if extent.kind is Kind.DATA:
            data += extent.length
            _keep(found, extent)
        pulse()
        if time.monotonic() > until:
            break
    unseen = max(0, node.size - reached)
    kept = sum(each.length for each in found)
    reads_all = kept <= samples * PIECE
    seen = held = sent = taken = 0
    for start, length in _all(found) if reads_all else _some(found, kept, samples, chance):
        try:
            blocks, is_sent = _read(node, start, length)
        except OSError:  # the copy will come here too, and name the place
            break
        seen, held, sent, taken = seen + length, held + blocks, sent + is_sent * length, taken + 1
        pulse()
        if time.monotonic() > until:
            break
    share = sent / seen if seen else 1.0
    if reads_all:
        least, likely = held, sent + (data - seen)
        most = likely
    elif not taken:
        least, likely, most = 0, data, data
    else:
        least, likely, most = int(lower_bound(held / seen, taken) * kept), round(share * data), data
    return Estimate(
        min(likely + round(share * unseen), node.size),
        Amount(min(least, node.size), min(max(least, most) + unseen, node.size)),
    )


def lower_bound(share: float, count: int) -> float:
    """Return a bound that the true share is above, from the mean of ``count`` random samples between 0 and 1.

    It is Hoeffding's, in the form with the relative entropy, which is close when the share is near 1.
    """
    limit = -math.log(_DOUBT) / count
    low, high = 0.0, share
    for _ in range(40):
        middle = (low + high) / 2
        if _entropy(share, middle) > limit:
            low = middle
        else:
            high = middle
    return low


def _entropy(share: float, other: float) -> float:
    """Return the relative entropy of a share to a smaller one."""
    if other <= 0:
        return math.inf if share > 0 else 0.0
    first = share * math.log(share / other) if share > 0 else 0.0
    return first + ((1 - share) * math.log((1 - share) / (1 - other)) if share < 1 else 0.0)


def _keep(found: list[Extent], extent: Extent) -> None:
    if found and found[-1].end == extent.offset:
        found[-1] = Extent(found[-1].offset, found[-1].length + extent.length, Kind.DATA)
    elif len(found) < MAX_EXTENTS:
        found.append(extent)


def _all(found: Iterable[Extent]) -> Iterator[tuple[int, int]]:
    for extent in found:
        for start in range(extent.offset, extent.end, PIECE):
            yield start, min(PIECE, extent.end - start)


def _some(found: list[Extent], kept: int, count: int, chance: random.Random) -> Iterator[tuple[int, int]]:
    """Yield random pieces of the extents, which have ``kept`` bytes."""
    ends: list[int] = []
    total = 0
    for extent in found:
        total += extent.length
        ends.append(total)
    for _ in range(count):
        place = chance.randrange(kept)
        index = bisect.bisect_right(ends, place)
        extent = found[index]
        inside = (place - (ends[index] - extent.length)) // PIECE * PIECE
        yield extent.offset + inside, min(PIECE, extent.length - inside)


def _read(node: Node, start: int, length: int) -> tuple[int, bool]:
    """Return how many bytes of a piece lie in blocks that are not zeros, and whether there are any."""
    length = min(length, node.size - start)
    buffer = memoryview(bytearray(length))
    node.read_into(start, buffer)
    blocks = (buffer[place : place + BLOCK] for place in range(0, length, BLOCK))
    held = sum(len(block) for block in blocks if not _ZEROS.startswith(block))
    return held, held > 0
