"""The offer, and the destination's answers to it until it agrees.

Before that the destination may report ranges that read as zeros, and that it is still checking. To compare
whole backing images can take hours, but a broken destination must not delay the migration for ever. So the
time limit depends on the size of the images.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.disks import Disks
from qmon.migration.source.errors import LinkError, out_of_turn
from qmon.migration.source.link import Link
from qmon.migration.source.sender import Sender
from qmon.migration.wire.answers import MIN_ZERO_RANGE, Answer, Type
from qmon.migration.wire.offer import Answers, Offer
from qmon.migration.wire.stream import PREAMBLE, section_part, section_start

ANSWERS = (Type.ZEROS, Type.BUSY, Type.NEEDED, Type.AGREED)

AGREE_RATE = 16 << 20
"""A destination gets one more second to agree per 16 MiB of drives and backing images.

That is about a minute per GiB. A slow disk is compared faster than that.
"""

BUSY_AT_ONCE = 100
"""How many BUSY answers may arrive at once; then one per second. A real destination sends fewer."""


def greet(sender: Sender, offer: Offer, answers: Sequence[Type]) -> None:
    """Send an offer as the first part of the stream, and allow these answers. Raises as ``hear``."""
    sender.writer.raw(PREAMBLE + section_start())
    sender.writer.hello(offer.encode())
    sender.expect(*answers)
    sender.end_part()


def is_heard(link: Link, offer: Offer, sender: Sender, seconds: float) -> bool:
    """Find out whether the destination answers the offer that was sent, and tell it. Raises as ``hear``."""
    heard = link.hears(seconds)
    if offer.answers is Answers.ASKED:
        sender.writer.raw(section_part())
        sender.writer.answers(heard=heard)
        sender.end_part()
    return heard


def hear(link: Link, offer: Offer, disks: Disks, seconds: int) -> dict[str, Any]:
    """Wait until the destination agrees; note in the copies which of its ranges are zeros.

    Return what the destination agrees to of what the offer has named.

    It must agree within ``seconds``, plus time for large disks, and may ask for further drives. Raises
    LinkError if it does not agree in time or breaks the protocol, PeerRefusedError if it refuses.
    """
    sizes = sum(drive.size + (drive.backing.size if drive.backing else 0) for drive in offer.drives)
    patience = seconds + sizes // AGREE_RATE
    signs = Signs()
    zeros = _Zeros(disks.copies)
    while (answer := link.wait_for(*ANSWERS)).type is not Type.AGREED:
        if signs.seconds > patience:
            raise LinkError(f"the destination has not accepted the migration's drives within {patience} s")
        if answer.type is Type.ZEROS:
            zeros.note(answer)
            continue
        if answer.type is Type.NEEDED:
            zeros.add(disks.needed(offer, answer.needed))
            continue
        signs.note_busy()
    return answer.agreed


class Signs:
    """The BUSY answers to one request, by which a destination shows that it is at work."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._count = 0

    @property
    def seconds(self) -> float:
        """How long the answer takes so far."""
        return time.monotonic() - self._begun

    def note_busy(self) -> None:
        """Note one. Raises LinkError if there are too many."""
        self._count += 1
        if self._count > BUSY_AT_ONCE + self.seconds:
            raise out_of_turn(Type.BUSY)


class _Zeros:
    """Checks and notes ZEROS answers. They must go through each drive once in order, so that they end."""

    def __init__(self, copies: Sequence[DriveCopy]) -> None:
        self._copies = {copy.index: copy for copy in copies if copy.hears_of_zeros}
        self._index = -1
        self._end = 0

    def add(self, copy: DriveCopy) -> None:
        """Add the copy of a further drive."""
        self._copies[copy.index] = copy

    def note(self, answer: Answer) -> None:
        """Note the ranges of one answer. Raises LinkError for invalid ranges."""
        index, ranges = answer.zeros
        copy = self._copies.get(index)
        if copy is None:
            raise LinkError(f"the destination reported zeros of drive {index}, which is not copied in full")
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
                    f"the destination reported {length} bytes of zeros at {offset} of drive"
                    f" '{copy.drive.id}', which has {copy.drive.size} bytes"
                )
            copy.known_zeros.add(offset, length)
