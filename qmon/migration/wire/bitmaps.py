"""Dirty bitmaps in the stream: which the source offers, and their marks. Pure.

Marks travel in BITMAP records, while guests run, and before FINISH those that are new since. A record adds
marks to one bitmap, by its number in the offer, from a chunk on. Few are runs, many are bits.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

from qmon.block.flags import SEGMENT, pack
from qmon.migration.wire.stream import StreamError

MAX_BITMAPS = 65535
MAX_NAME = 1023
"""Bytes of a bitmap's name."""

PART = 64 * SEGMENT
"""The most chunks of a record with bits, whose first chunk is a multiple of it."""

MAX_RUNS = 1 << 11
"""The most runs of marks in a part; more are sent as bits."""

OFF_HERE = (
    "the source sends dirty bitmaps, and the capability dirty-bitmaps is off at the destination:"
    " turn it on there, or off at the source"
)
_RUNS, _BITS = b"\0", b"\1"
"""The first byte of a payload."""

_RUN = struct.Struct(">II")
"""The unmarked chunks before a run, and those in it."""


@dataclass(frozen=True, slots=True)
class BitmapOffer:
    """A bitmap; ``node`` and ``name`` are the drive's id and its name, or their aliases."""

    node: str
    name: str
    granularity: int
    recording: bool
    persistent: bool

    def fields(self) -> dict[str, Any]:
        """Return what JSON has of it."""
        return {
            "node": self.node,
            "name": self.name,
            "granularity": self.granularity,
            "recording": self.recording,
            "persistent": self.persistent,
        }

    @classmethod
    def read(cls, item: Any) -> BitmapOffer:
        """Read what ``fields`` returns. Raises ValueError, KeyError or TypeError."""
        found = cls(item["node"], item["name"], item["granularity"], item["recording"], item["persistent"])
        names = (found.node, found.name)
        good = all(isinstance(name, str) and 0 < len(name.encode()) <= MAX_NAME for name in names)
        grain = found.granularity
        good = good and type(grain) is int and 512 <= grain < 1 << 32 and not grain & (grain - 1)
        if not good or type(found.recording) is not bool or type(found.persistent) is not bool:
            raise ValueError(f"invalid description of a bitmap: {str(item)[:200]}")
        return found


def encode(flags: bytes) -> bytes:
    """Return the payload of a record from flags, one byte each, at most PART."""
    runs: list[int] = []
    position = 0
    while (start := flags.find(1, position)) >= 0:
        if len(runs) == 2 * MAX_RUNS:
            return _BITS + zlib.compress(pack(flags), 1)
        stop = flags.find(0, start)
        stop = len(flags) if stop < 0 else stop
        runs += (start - position, stop - start)
        position = stop
    return _RUNS + struct.pack(f">{len(runs)}I", *runs)


Runs = list[tuple[int, int]]
"""The (first, count) of chunks."""


def decode(payload: bytes, first: int, chunks: int) -> Runs | bytes:
    """Read a payload for a bitmap of ``chunks`` chunks: runs of marked ones, or bits from ``first`` on.

    Raises StreamError.
    """
    kind, content = payload[:1], payload[1:]
    try:
        if kind == _RUNS and first < chunks:
            return _runs(content, first, chunks)
        if kind == _BITS and first < chunks and not first % PART:
            unpacker = zlib.decompressobj()
            bits = unpacker.decompress(content, PART // 8 + 1)
            if unpacker.eof and len(bits) <= PART // 8:
                return bits
    except (ValueError, struct.error, zlib.error) as error:
        raise StreamError(f"not a valid migration stream: marks of a bitmap: {error}") from error
    raise StreamError("not a valid migration stream: a BITMAP record is damaged")


def _runs(content: bytes, first: int, chunks: int) -> Runs:
    found, position = [], first
    for gap, count in _RUN.iter_unpack(content):
        if position + gap + count > chunks:
            raise ValueError(f"there are more than {chunks}")
        found.append((position + gap, count))
        position += gap + count
    return found
