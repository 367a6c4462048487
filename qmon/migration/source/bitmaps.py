"""Sends the dirty bitmaps that go along: all marks while guests run, then again and again the new ones."""

from __future__ import annotations

from collections.abc import Sequence

from qmon.block.bitmaps import DirtyBitmap
from qmon.migration.source.copy import Outlet
from qmon.migration.wire.bitmaps import PART, BitmapOffer, encode

RUN_BYTES = 8
"""Bytes of a mark that stands alone."""

MARK_SECONDS = 4e-6
"""The time that a mark takes on both sides, besides its transfer; 1 to 4 µs were measured."""


class MovingBitmaps:
    """The bitmaps of a migration. For its thread; guests mark meanwhile.

    The drives are in use, so that marks only become more: no operator clears or disables a bitmap.
    """

    def __init__(self, bitmaps: Sequence[tuple[DirtyBitmap, BitmapOffer]]) -> None:
        self._bitmaps = [bitmap for bitmap, _ in bitmaps]
        self._are_sent = False
        """Whether all marks were sent on this line, so that only new ones are missing."""

    def __bool__(self) -> bool:
        return bool(self._bitmaps)

    def begin(self) -> None:
        """Begin a line: the destination has no marks yet."""
        self._are_sent = False
        for bitmap in self._bitmaps:
            bitmap.follow()

    def end(self) -> None:
        """The migration has ended."""
        for bitmap in self._bitmaps:
            bitmap.unfollow()

    def send(self, outlet: Outlet) -> None:
        """Send what is new, in an open part of the section. Raises the error that ends the migration."""
        for index, bitmap in enumerate(self._bitmaps):
            new = bitmap.new_marks()
            source = new if self._are_sent else bitmap
            for first in range(0, bitmap.chunks, PART):
                if marks := source.part(first, first + PART):
                    granted = outlet.allowance()
                    outlet.writer.bitmap(index, first, encode(marks))
                    if outlet.writer.is_full or outlet.writer.size >= granted:
                        outlet.send()
        self._are_sent = True

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the new marks take in the stream, at most."""
        return RUN_BYTES * sum(bitmap.news for bitmap in self._bitmaps)

    @property
    def seconds(self) -> float:
        """How long the new marks take to send and to apply, besides their transfer."""
        return MARK_SECONDS * sum(bitmap.news for bitmap in self._bitmaps)
