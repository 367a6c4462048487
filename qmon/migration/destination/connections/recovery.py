"""Continues a paused migration on a new connection: its source learns what it must send again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from qmon.errors import QmonError, naming
from qmon.migration.destination import bitmaps, images
from qmon.migration.destination.connections.part import Connection
from qmon.migration.destination.connections.reception import Reception
from qmon.migration.destination.connections.replies import Replies
from qmon.migration.destination.offers.acceptance import check_now
from qmon.migration.destination.records import Records
from qmon.migration.destination.side import Side
from qmon.migration.destination.transfer import OfferedDrive, Transfer
from qmon.migration.drive import MigratingDrive
from qmon.migration.progress import Progress
from qmon.migration.regions import Pulse, sums
from qmon.migration.states import Event
from qmon.migration.wire import answers
from qmon.migration.wire.offer import Offer, OfferError, Resume

log = logging.getLogger("qmon.migration")


def resume(side: Side, connection: Connection, offer: Offer, line: Resume) -> None:
    """Go on with the migration that an offer names. Raises QmonError, OSError."""
    replies = connection.replies
    transfer, applied = _take_up(side, connection, offer, line)
    reception = Reception(side, connection, transfer, line=line.line, has_written=True)
    connection.become(reception)
    replies.limit()
    log.info("incoming migration %s goes on, from %s", offer.id, connection.peer)
    _open(transfer, replies)
    _count_again(transfer, reception.progress)
    agreed: dict[str, Any] = {"recover": True}
    if applied is None:
        agreed["compared"] = True
        _tell_checksums(transfer, replies)
    else:
        agreed["applied"] = applied
    reception.progress.error = None
    side.course.step(Event.AGREED)
    replies.send(answers.agreed(agreed))


def _take_up(side: Side, connection: Connection, offer: Offer, line: Resume) -> tuple[Transfer, int | None]:
    """Give a paused migration to a connection; also return what its source has sent and is here.

    Raises OfferError if it is not paused, or not the source's.
    """
    course, claim = side.course, side.claim
    with course.lock:
        claim.wait_free()
        transfer = course.transfer
        if transfer is None or transfer.id != offer.id or not transfer.can_resume:
            raise OfferError(
                "the destination has no paused migration of this source: see 'info migrate' there"
            )
        if claim.owner is not None:
            raise OfferError(
                "the destination has not lost its line yet: wait a minute, or migrate_pause there first"
            )
        if line.line <= transfer.lines.number:
            raise OfferError("the source has tried again since")
        _take_offer(side, transfer, offer)
        if not course.takes(Event.RESUME):
            raise OfferError(f"the destination's migration is '{course.phase.status}' and can't be resumed")
        transfer.bitmaps = bitmaps.begin(side.options.bitmaps, offer.bitmaps, is_agreed=True)
        transfer.lines.number = line.line  # it is in the record
        try:
            course.step(Event.RESUME)
        except (QmonError, MemoryError):  # it could not be recorded
            course.step(Event.BREAK)
            raise
        claim.give(connection)
        transfer.is_spoiled, transfer.hub = False, None
        course.progress.gates_closed = None
        applied = transfer.lines.last_applied(line)
        if applied is None:  # neither side knows what the other one has from before
            transfer.begin_chains()
        return transfer, applied


def _take_offer(side: Side, transfer: Transfer, offer: Offer) -> None:
    """Take an offer, unless it is not about the drives of a paused migration: raises OfferError."""
    here = {drive.id: drive for drive in transfer.drives}
    if transfer.offered:
        _check_same(transfer, offer)
        copied = {drive.id for drive in transfer.copied}
    else:
        check_now(side.inventory, offer, transfer.drives)
        copied = _copied_before(side.records, transfer.id, offer, here)
    transfer.offered = [OfferedDrive(here[each.id], each, each.id in copied) for each in offer.drives]


def _check_same(transfer: Transfer, offer: Offer) -> None:
    """Raises OfferError if an offer to resume is not about the same drives as the paused migration."""
    if offer.mode is not transfer.mode:
        raise OfferError(
            f"the paused migration is '{transfer.mode.value}', and the source's is '{offer.mode.value}'"
        )
    here = {each.offer.id: each.offer for each in transfer.offered}
    for drive in offer.drives:
        known = here.pop(drive.id, None)
        if known is None:
            raise OfferError(f"the paused migration has no drive '{drive.id}'")
        if (known.size, known.read_only) != (drive.size, drive.read_only):
            raise OfferError(
                f"drive '{drive.id}' had {known.size} bytes when the migration began, and has {drive.size}"
                " now: migrate_cancel on both sides, then migrate again"
            )
    for name in here:
        raise OfferError(f"the paused migration has a drive '{name}', and the source has not")


def _copied_before(records: Records, id: UUID, offer: Offer, here: Mapping[str, MigratingDrive]) -> set[str]:
    """After a restart: return the ids of the drives that are copied, of all that are ``here`` by their ids.

    Raises OfferError if they are not those that the paused migration was copied to.
    """
    recorded = records.drives_of(id)
    copied = set()
    for offered in offer.drives:
        image = here[offered.id].image
        if offered.id in recorded and records.is_of(image, id):
            copied.add(offered.id)
        elif not offered.read_only:
            raise OfferError(
                f"drive '{offered.id}' has another image at the destination than the one that was copied to:"
                " migrate_cancel on both sides, then migrate again"
            )
        recorded.discard(offered.id)
    for name in recorded:
        raise OfferError(
            f"the paused migration was copied to a drive '{name}', which the source does not offer"
        )
    return copied


def _checksums(offered: Sequence[OfferedDrive], pulse: Pulse) -> Iterator[bytes]:
    """Yield the messages that tell the source what is here. Raises OSError."""
    for number, each in enumerate(offered):
        if each.is_copied:
            is_overlay = each.offer.backing is not None
            for first, found in sums(each.drive.node, is_overlay=is_overlay, pulse=pulse):
                yield answers.sums(number, first, found)


def _open(transfer: Transfer, replies: Replies) -> None:
    """Open the images as they were, also after a restart. Raises QmonError, OSError."""
    for number, each in enumerate(transfer.offered):
        with images.opening(each.drive):
            each.drive.activate()
        if each.is_copied and each.drive.read_only:
            with images.opening(each.drive):
                each.drive.open_to_fill()
            replies.send(answers.needed(number))


def _count_again(transfer: Transfer, progress: Progress) -> None:
    """After a restart: begin with the figures."""
    if not progress.arrived:
        progress.arrived = {drive.id: 0 for drive in transfer.copied}
        progress.total = 0 if transfer.has_overlays else sum(drive.size for drive in transfer.copied)


def _tell_checksums(transfer: Transfer, replies: Replies) -> None:
    """Say what the drives hold: nobody knows what was sent before. Raises QmonError, OSError."""
    messages = _checksums(transfer.offered, replies.show_life)
    while True:
        with naming("the disks can't be read at the destination"):
            message = next(messages, None)
        if message is None:
            return
        replies.send(message)
