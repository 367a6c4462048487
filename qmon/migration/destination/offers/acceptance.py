"""Checks an offered migration, before and after the images are locked. A refusal tells all mismatches."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from qmon.migration.backing import Leftovers, Pulse, backing_mismatch, overlay_mismatch
from qmon.migration.destination.images import reading
from qmon.migration.destination.inventory import Inventory
from qmon.migration.destination.offers.inspection import Inspection
from qmon.migration.destination.offers.read_only import must_be_copied
from qmon.migration.destination.options import Options
from qmon.migration.destination.transfer import OfferedDrive
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.fit import check_fit, in_one
from qmon.migration.wire.offer import BackingOffer, DriveOffer, Offer, OfferError

log = logging.getLogger("qmon.migration")

REFUSAL_SECONDS = 5
"""How long contents are compared for an offer that is refused anyway, to tell all that does not match."""


def inspect(here: Inventory, options: Options, offer: Offer, pulse: Pulse) -> None:
    """Check an offer before anything is locked. Raises OfferError that tells all that does not match."""
    looking = Inspection(here, options, offer, pulse, REFUSAL_SECONDS)
    found = looking.look(contents=False)
    if found.mismatches:
        raise OfferError(in_one(looking.look(contents=True).mismatches or found.mismatches))
    for warning in found.warnings:
        log.warning("incoming migration %s: %s", offer.id, warning)


def check_now(here: Inventory, offer: Offer, drives: Sequence[MigratingDrive]) -> None:
    """Check an offer against the drives as they are known now. Raises OfferError."""
    check_fit(offer, [_describe(drive) for drive in drives], here.uuid, here.empty)


def _describe(drive: MigratingDrive) -> DriveOffer:
    size = drive.backing_size
    return DriveOffer(drive.id, drive.size, drive.read_only, None if size is None else BackingOffer(size))


def read_only_copies(offered: Sequence[OfferedDrive], leftovers: Leftovers, pulse: Pulse) -> list[int]:
    """Return the numbers of the read-only drives that the source must copy. Raises QmonError.

    The drives are active. The images of these drives are open for writing on return.
    """
    found: list[int] = []
    wrong: list[str] = []
    for number, each in enumerate(offered):
        if not each.offer.read_only:
            continue
        try:
            with reading(each.drive):
                if must_be_copied(each.drive, each.offer.content, leftovers, pulse):
                    found.append(number)
        except OfferError as error:
            wrong.append(str(error))
    _refuse(wrong)
    return found


def prepare_overlays(offered: Sequence[OfferedDrive], leftovers: Leftovers, pulse: Pulse) -> None:
    """Check that incremental copies fit the drives; empty overlays of a failed copy. Raises QmonError."""
    copies = [
        (each.drive, each.offer.backing)
        for each in offered
        if each.offer.backing is not None and not each.drive.read_only
    ]
    wrong: list[str | None] = []
    for drive, backing in copies:
        with reading(drive):
            wrong.append(backing_mismatch(drive.id, drive.node.backing, backing, pulse))
    _refuse(wrong)
    for drive, _ in copies:
        with reading(drive):
            leftovers.empty(drive, pulse)
            wrong.append(overlay_mismatch(drive.id, drive.node))
    _refuse(wrong)
    for drive, _ in copies:
        leftovers.begun(drive.image)


def _refuse(wrong: Sequence[str | None]) -> None:
    """Raises OfferError if anything is wrong."""
    if found := [each for each in wrong if each is not None]:
        raise OfferError(in_one(found))
