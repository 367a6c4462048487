"""Setup, as the source hears it: what reads as zeros over there, that the offer is looked at, the agreement.

A destination that compares whole backing images may need hours, and one that only says so must not keep the
migration for ever. So the time that it gets follows from what there is to look at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.link import Link, LinkError, out_of_turn
from qmon.migration.wire.answers import MIN_ZERO_RANGE, Answer, Type
from qmon.migration.wire.offer import Offer

ANSWERS = (Type.ZEROS, Type.BUSY, Type.NEEDED, Type.AGREED)

AGREE_SECONDS = 600
AGREE_RATE = 16 << 20
"""A destination must agree within ten minutes, and a second more for each 16 MiB of the drives and their
backing images (about a minute for each GiB): when all is compared, a slow disk is read faster than that."""

BUSY_AT_ONCE = 100
"""How many BUSY may come together; after them one a second. An honest one comes every few seconds."""


def hear(link: Link, offer: Offer, copies: Sequence[DriveCopy], need: Callable[[int], DriveCopy]) -> None:
    """Return when the destination has agreed; the copies know by then what it has as zeros.

    ``need`` makes the copy of a drive, by its number, that the destination asks for beyond these. Raises
    LinkError for one that does not agree, or says what it must not, PeerRefusedError for a no.
    """
    sizes = sum(drive.size + (drive.backing.size if drive.backing else 0) for drive in offer.drives)
    patience = AGREE_SECONDS + sizes // AGREE_RATE
    begun = time.monotonic()
    zeros = _Zeros(copies)
    busy = 0
    while (answer := link.wait_for(*ANSWERS)).type is not Type.AGREED:
        passed = time.monotonic() - begun
        if passed > patience:
            raise LinkError(f"the destination did not agree within {patience} s")
        if answer.type is Type.ZEROS:
            zeros.note(answer)
            continue
        if answer.type is Type.NEEDED:
            zeros.add(need(answer.needed))
            continue
        busy += 1
        if busy > BUSY_AT_ONCE + passed:
            raise out_of_turn(Type.BUSY)


class _Zeros:
    """What ZEROS say, which goes through each drive once, so that it has an end."""

    def __init__(self, copies: Sequence[DriveCopy]) -> None:
        self._copies = {copy.index: copy for copy in copies if copy.hears_of_zeros}
        self._index = -1
        self._end = 0

    def add(self, copy: DriveCopy) -> None:
        """One more copy travels."""
        self._copies[copy.index] = copy

    def note(self, answer: Answer) -> None:
        """Raises LinkError for ranges that can't be."""
        index, ranges = answer.zeros
        copy = self._copies.get(index)
        if copy is None:
            raise LinkError(f"the destination spoke of drive {index}, which does not travel in full")
        if index < self._index or not ranges:
            raise out_of_turn(Type.ZEROS)
        if index > self._index:
            self._index, self._end = index, 0
        for offset, length in ranges:
            if offset < self._end:
                raise out_of_turn(Type.ZEROS)
            self._end = offset + length
            if length < MIN_ZERO_RANGE or self._end > copy.drive.size:
                raise LinkError(
                    f"the destination spoke of {length} bytes of zeros at {offset} of drive"
                    f" '{copy.drive.id}', which has {copy.drive.size} bytes"
                )
            copy.known_zeros.add(offset, length)
