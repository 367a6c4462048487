"""Checks an offered migration, before and after the images are locked. A refusal tells all mismatches."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID

from qmon.errors import naming
from qmon.migration.backing import Leftovers, Pulse, backing_mismatch, overlay_mismatch
from qmon.migration.destination.inspection import Inspection
from qmon.migration.destination.read_only import must_travel
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.fit import in_one
from qmon.migration.wire.offer import Offer, OfferError

log = logging.getLogger("qmon.migration")

REFUSAL_SECONDS = 5
"""How long contents are compared for an offer that is refused anyway, to tell all that does not match."""


class Machine(Protocol):
    """The part of ``Incoming`` that describes this side; see there."""

    leftovers: Leftovers

    @property
    def drives(self) -> Sequence[MigratingDrive]:
        """Return the current drives."""

    @property
    def empty(self) -> Collection[str]:
        """Return the ids of the drives that have no medium now."""

    @property
    def uuid(self) -> UUID | None:
        """The machine's UUID, None if it has none."""


def inspection(here: Machine, offer: Offer, pulse: Pulse, seconds: float) -> Inspection:
    """Return the inspection of an offer; ``seconds`` limit the comparison of contents."""
    return Inspection(offer, here.drives, here.empty, here.uuid, here.leftovers, pulse, seconds)


def inspect(here: Machine, offer: Offer, pulse: Pulse) -> None:
    """Check an offer before anything is locked. Raises OfferError that tells all that does not match."""
    looking = inspection(here, offer, pulse, REFUSAL_SECONDS)
    found = looking.look(contents=False)
    if found.mismatches:
        raise OfferError(in_one(looking.look(contents=True).mismatches or found.mismatches))
    for warning in found.warnings:
        log.warning("incoming migration %s: %s", offer.id, warning)


def travelling(
    drives: Sequence[MigratingDrive], offer: Offer, leftovers: Leftovers, pulse: Pulse
) -> list[int]:
    """Return the numbers of the read-only drives that the source must copy. Raises QmonError.

    ``drives`` are active, and in the order of the offer. The images of these drives are open for writing on
    return.
    """
    found: list[int] = []
    wrong: list[str] = []
    for index, (drive, offered) in enumerate(zip(drives, offer.drives, strict=True)):
        if not offered.read_only:
            continue
        try:
            with reading(drive):
                if must_travel(drive, offered.content, leftovers, pulse):
                    found.append(index)
        except OfferError as error:
            wrong.append(str(error))
    _refuse(wrong)
    return found


def prepare_overlays(
    drives: Sequence[MigratingDrive], offer: Offer, leftovers: Leftovers, pulse: Pulse
) -> None:
    """Check that incremental copies fit the drives; empty overlays of a failed copy. Raises QmonError."""
    copies = [
        (drive, offered.backing)
        for drive, offered in zip(drives, offer.drives, strict=True)
        if offered.backing is not None and not drive.read_only
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


def reading(drive: MigratingDrive) -> AbstractContextManager[None]:
    """Turn an OSError of reading an image into a QmonError, which is also sent to the source."""
    return naming(f"drive '{drive.id}' can't be read at the destination")


def _refuse(wrong: Sequence[str | None]) -> None:
    """Raises OfferError if anything is wrong."""
    if found := [each for each in wrong if each is not None]:
        raise OfferError(in_one(found))
