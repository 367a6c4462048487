"""Plans how each drive of a source is copied: in full, incrementally, or only if the destination asks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from qmon.block.extents import visible_extents
from qmon.block.node import Extent
from qmon.errors import naming
from qmon.migration.backing import describe_backing
from qmon.migration.drive import MigratingDrive
from qmon.migration.source.amount import Estimate, estimate
from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.incremental import IncrementalCopy
from qmon.migration.wire.offer import BackingOffer, DriveOffer, Mode


@dataclass(frozen=True, slots=True)
class Effort:
    """What an estimate may cost: samples of a drive, and seconds for all drives."""

    samples: int
    seconds: float


QUICK = Effort(256, 0.3)
"""Before a migration: it is to begin soon."""

THOROUGH = Effort(1024, 10)
"""In a trial."""


def plan(
    drives: Sequence[MigratingDrive],
    mode: Mode,
    verify: str,
    migration: UUID,
    pulse: Callable[[], None],
    effort: Effort = QUICK,
) -> tuple[tuple[DriveOffer, ...], list[DriveCopy], dict[int, Estimate]]:
    """Return the offers of the drives, the copies of those that are copied in any case, and how much that is.

    An image without a backing file is copied in full even in incremental mode. ``verify`` says how backing
    images and read-only drives are described. ``pulse`` is called while that takes time; what it raises is
    passed on. The estimates are by index; in a trial also of drives that the destination may ask for.
    Raises QmonError for a drive that can't be read.
    """
    offers: list[DriveOffer] = []
    copies: list[DriveCopy] = []
    estimates: dict[int, Estimate] = {}
    chance = random.Random(migration.int)
    for index, drive in enumerate(drives):
        offered: BackingOffer | None = None
        content: BackingOffer | None = None
        if mode is not Mode.SHARED and drive.read_only:
            with naming(f"read-only drive '{drive.id}' can't be read"):
                content = describe_backing(drive.node, verify, migration, pulse)
        elif mode is not Mode.SHARED:
            backing = drive.node.backing if mode is Mode.INCREMENTAL else None
            if backing is None:
                copies.append(DriveCopy(index, drive))
            else:
                with naming(f"the backing image of drive '{drive.id}' can't be read"):
                    offered = describe_backing(backing, verify, migration, pulse)
                copies.append(IncrementalCopy(index, drive))
        if mode is not Mode.SHARED and (not drive.read_only or effort is THOROUGH):
            with naming(f"drive '{drive.id}' can't be read"):
                estimates[index] = estimate(
                    drive.node,
                    _extents(drive, is_overlay=offered is not None),
                    samples=effort.samples,
                    seconds=effort.seconds / len(drives),
                    chance=chance,
                    pulse=pulse,
                )
        amount = estimates[index].amount if index in estimates else None
        image = drive.image if content is not None else ""
        offers.append(DriveOffer(drive.id, drive.size, drive.read_only, offered, content, amount, image))
    return tuple(offers), copies, estimates


def _extents(drive: MigratingDrive, *, is_overlay: bool) -> Iterable[Extent]:
    """Return the extents that a copy looks at: an overlay's own, or what guests see."""
    if is_overlay:
        return drive.node.extents(0, drive.size)
    return visible_extents(drive.node, 0, drive.size)
