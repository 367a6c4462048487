"""The dirty bitmaps of a migration: takes their marks as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from qmon.block.bitmaps import DirtyBitmap
from qmon.errors import CommandError
from qmon.migration.wire.bitmaps import BitmapOffer, decode
from qmon.migration.wire.offer import OfferError
from qmon.migration.wire.stream import Record, StreamError


class Arriving(Protocol):
    """Bitmaps that are not yet shown."""

    @property
    def bitmaps(self) -> Sequence[DirtyBitmap]:
        """They are in the order of the offer, and for one thread."""

    def put(self) -> None:
        """Add them to the drives, whose images are open. The gates are closed."""


class BitmapKeeper(Protocol):
    """Keeps dirty bitmaps with the drives. Its calls are made on data threads."""

    def make(self, offered: Sequence[BitmapOffer], *, is_agreed: bool) -> Arriving:
        """Return bitmaps without marks. Raises CommandError if they can't be taken.

        ``is_agreed``: they were accepted before, perhaps by a process before this one.
        """


class NoBitmaps:
    """What comes along with no bitmaps."""

    bitmaps: Sequence[DirtyBitmap] = ()

    def put(self) -> None:
        """Do nothing."""


def begin(keeper: BitmapKeeper, offered: Sequence[BitmapOffer], *, is_agreed: bool = False) -> Arriving:
    """Return the offered bitmaps. Raises OfferError if they can't be taken."""
    if not offered:
        return NoBitmaps()
    try:
        return keeper.make(offered, is_agreed=is_agreed)
    except CommandError as error:
        raise OfferError(str(error)) from error


def take(record: Record, bitmaps: Sequence[DirtyBitmap]) -> None:
    """Add the marks of a BITMAP record. Raises StreamError."""
    if record.drive >= len(bitmaps):
        raise StreamError(f"not a valid migration stream: bitmap number {record.drive} was not offered")
    bitmap = bitmaps[record.drive]
    marks = decode(bytes(record.payload), record.offset, bitmap.chunks)
    if isinstance(marks, bytes):
        bitmap.mark_packed(record.offset, marks)
        return
    grain = bitmap.granularity
    for first, count in marks:
        bitmap.mark(first * grain, count * grain)
