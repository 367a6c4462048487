"""Accepts an offer: checks it, takes the locks, prepares the drives, and says what the source must send."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

from qmon.block.extents import visible_extents
from qmon.block.node import Kind
from qmon.migration.destination import bitmaps, images
from qmon.migration.destination.connections.part import Connection
from qmon.migration.destination.connections.reception import Reception
from qmon.migration.destination.connections.unheard import UnheardReception
from qmon.migration.destination.offers.acceptance import (
    check_now,
    inspect,
    prepare_overlays,
    read_only_copies,
)
from qmon.migration.destination.offers.read_only import not_in_stream
from qmon.migration.destination.offers.settings import NOT_AGREED
from qmon.migration.destination.side import Side
from qmon.migration.destination.transfer import OfferedDrive, Transfer
from qmon.migration.drive import MigratingDrive
from qmon.migration.states import Event
from qmon.migration.wire import answers
from qmon.migration.wire.offer import Answers, Mode, Offer

log = logging.getLogger("qmon.migration")


def greet(side: Side, connection: Connection, offer: Offer) -> None:
    """Begin a migration, and agree to it. Raises QmonError, OSError."""
    replies, options = connection.replies, side.options
    side.claim.check_free()
    if not replies.are_read:  # there will be no other line
        offer = replace(offer, recover=False, forwards=False, answers=Answers.UNHEARD)
    inspect(side.inventory, options, offer, replies.show_life)
    drives = side.inventory.drives
    for drive in drives:
        with images.opening(drive):
            drive.probe()
    check_now(side.inventory, offer, drives)  # they may have changed since
    offered = _offered(drives_by_id={drive.id: drive for drive in drives}, offer=offer)
    forwards = offer.forwards and options.takes_requests()
    transfer = side.claim.take(connection, offer, offered, forwards=forwards)
    kind = Reception if replies.are_read else UnheardReception
    reception = kind(side, connection, transfer)
    connection.become(reception)
    reception.open_hub(offer)
    log.info("incoming migration %s from %s", offer.id, connection.peer)
    Greeting(side, connection, offer, transfer).agree()


def _offered(drives_by_id: dict[str, MigratingDrive], offer: Offer) -> list[OfferedDrive]:
    found = []
    for each in offer.drives:
        drive = drives_by_id[each.id]
        is_copied = offer.is_copy and not each.read_only and not drive.read_only
        found.append(OfferedDrive(drive, each, is_copied))
    return found


class Greeting:
    """The steps from the locks to AGREED. For the connection that has the migration."""

    def __init__(self, side: Side, connection: Connection, offer: Offer, transfer: Transfer) -> None:
        self._side = side
        self._replies = connection.replies
        self._offer = offer
        self._transfer = transfer
        self._progress = side.course.progress

    def agree(self) -> None:
        """Make the drives ready for the source's data, and say so. Raises QmonError, OSError."""
        transfer, progress, offer = self._transfer, self._progress, self._offer
        leftovers, pulse = self._side.inventory.leftovers, self._replies.show_life
        progress.total = sum(
            each.drive.size for each in transfer.offered if each.is_copied and each.offer.backing is None
        )
        progress.remaining = progress.total
        self._side.course.step(Event.AGREED)
        self._replies.limit()
        if offer.is_copy:
            self._settle_read_only()
        prepare_overlays(transfer.offered, leftovers, pulse)
        for number, each in enumerate(transfer.offered):
            if each.is_copied and each.offer.backing is None:
                for message in answers.zeros(number, _zero_ranges(each.drive)):
                    self._replies.send(message)
        progress.arrived = {drive.id: 0 for drive in transfer.copied}
        transfer.bitmaps = bitmaps.begin(self._side.options.bitmaps, offer.bitmaps)
        self._settle_recovery()
        progress.agreed = time.monotonic()
        self._replies.send(answers.agreed({"recover": True} if transfer.can_resume else {}))

    def _settle_read_only(self) -> None:
        """Ask the source for the read-only drives that are not yet here. Raises QmonError, OSError."""
        leftovers, pulse = self._side.inventory.leftovers, self._replies.show_life
        for number in read_only_copies(self._transfer.offered, leftovers, pulse):
            each = self._transfer.offered[number]
            if not self._replies.are_read and self._offer.mode is not Mode.FULL:
                raise not_in_stream(each.offer)
            each.is_copied = True
            self._progress.total += each.drive.size
            self._progress.remaining += each.drive.size
            self._replies.send(answers.needed(number))
        if not self._replies.are_read:  # the stream has all of them
            for each in self._transfer.offered:
                each.is_compared = each.offer.content is not None and not each.is_copied

    def _settle_recovery(self) -> None:
        """Record that a broken line pauses the migration, if both sides want that. Raises JournalError."""
        is_wanted_here = self._side.options.may_recover()
        self._transfer.can_resume = self._offer.recover and is_wanted_here
        if self._transfer.can_resume:
            self._side.course.step(Event.ACCEPTED)
        elif self._replies.are_read and self._offer.is_copy and self._offer.recover is not is_wanted_here:
            log.warning("incoming migration %s: %s", self._offer.id, NOT_AGREED)


def _zero_ranges(drive: MigratingDrive) -> Iterator[tuple[int, int]]:
    """Yield the zero ranges of a drive. A list could take gigabytes for a fragmented disk."""
    with images.opening(drive):
        for extent in visible_extents(drive.node, 0, drive.size):
            if extent.kind is Kind.ZERO and extent.length >= answers.MIN_ZERO_RANGE:
                yield extent.offset, extent.length
