"""Plans how each drive of a source is copied: in full, incrementally, or only if the destination asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from qmon.errors import naming
from qmon.migration.backing import describe_backing
from qmon.migration.drive import MigratingDrive
from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.incremental import IncrementalCopy
from qmon.migration.wire.offer import BackingOffer, DriveOffer, Mode


def plan(
    drives: Sequence[MigratingDrive], mode: Mode, verify: str, migration: UUID, pulse: Callable[[], None]
) -> tuple[tuple[DriveOffer, ...], list[DriveCopy]]:
    """Return the offers of the drives, and the copies of those that are copied in any case.

    An image without a backing file is copied in full even in incremental mode. ``verify`` says how backing
    images and read-only drives are described. ``pulse`` is called while that takes time; what it raises is
    passed on. Raises QmonError for a drive that can't be read.
    """
    offers: list[DriveOffer] = []
    copies: list[DriveCopy] = []
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
        offers.append(DriveOffer(drive.id, drive.size, drive.read_only, offered, content))
    return tuple(offers), copies
