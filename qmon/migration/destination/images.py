"""The images of the drives that a migration comes to: opened and locked, flushed, given up.

An OSError becomes a QmonError that names the drive, because it is also sent to the source.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager

from qmon.errors import QmonError, naming, reason
from qmon.migration import drive as drives
from qmon.migration.backing import Leftovers
from qmon.migration.compare import open_as_seen
from qmon.migration.destination.transfer import Transfer
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.offer import Mode

log = logging.getLogger("qmon.migration")


def opening(drive: MigratingDrive, kind: type[QmonError] = QmonError) -> AbstractContextManager[None]:
    """Turn an OSError of opening an image into a ``kind``."""
    return naming(f"drive '{drive.id}' can't be opened at the destination", kind)


def reading(drive: MigratingDrive, kind: type[QmonError] = QmonError) -> AbstractContextManager[None]:
    """Turn an OSError of reading an image into a ``kind``."""
    return naming(f"drive '{drive.id}' can't be read at the destination", kind)


def writing(drive: MigratingDrive, offset: int, length: int) -> AbstractContextManager[None]:
    """Turn an OSError of writing an image into a QmonError."""
    return naming(f"drive '{drive.id}': write of {length} bytes at {offset} failed at the destination")


def flushing(drive: MigratingDrive) -> AbstractContextManager[None]:
    """Turn an OSError of a flush into a QmonError."""
    return drives.flushing(drive, where=" at the destination")


def lock(transfer: Transfer, leftovers: Leftovers) -> None:
    """Open and lock the images that are not open yet. Raises QmonError.

    A shared disk must be as the last comparison has found it.
    """
    for drive in transfer.drives:
        with opening(drive):
            if drive.id in transfer.seen:
                open_as_seen(drive, transfer.seen[drive.id])
            drive.activate()
            drive.check_name()
            leftovers.opened(drive.image)


def hold(transfer: Transfer) -> None:
    """After a restart: open and lock the images again. Raises QmonError."""
    for drive in transfer.drives:
        with opening(drive):
            drive.activate()


def flush(transfer: Transfer) -> None:
    """Flush what was copied; read-only drives are read-only again. Raises QmonError."""
    if transfer.mode is Mode.SHARED:
        return
    for drive in transfer.drives:
        with opening(drive):
            drive.check_name()
        with flushing(drive):
            if drive.read_only:
                drive.end_filling()
            else:
                drive.node.flush()


def give_up(transfer: Transfer, leftovers: Leftovers) -> None:
    """Close the images without a flush: they are partial, or were flushed before."""
    for drive in transfer.drives:
        try:
            drive.abandon()
            leftovers.closed(drive.image)
        except OSError as error:
            log.error("drive '%s': %s", drive.id, reason(error))
