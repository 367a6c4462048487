"""Applies records to the drives that are copied, checks where they go, and keeps checksums of them."""

from __future__ import annotations

import logging
import threading
import time

from qmon.errors import QmonError
from qmon.migration.backing import Pulse
from qmon.migration.destination import images
from qmon.migration.destination.offers.read_only import prove
from qmon.migration.destination.transfer import Transfer
from qmon.migration.drive import MigratingDrive
from qmon.migration.progress import Progress
from qmon.migration.wire.stream import Finish, Kind, Record, StreamError

log = logging.getLogger("qmon.migration")

SAVE_SECONDS = 5.0
"""How often tables in memory are flushed if the migration can be resumed: a kill loses what is not."""


class Applier:
    """For one connection's thread; ``apply`` is for those of its channels, too."""

    def __init__(self, transfer: Transfer, progress: Progress, pulse: Pulse, *, has_written: bool) -> None:
        """``pulse`` is called now and then while an image is read."""
        self._transfer = transfer
        self._progress = progress
        self._pulse = pulse
        self._figures = threading.Lock()
        self._saved = time.monotonic()
        """When images whose tables are in memory were flushed."""
        self.has_written = has_written
        """Whether the images are partial."""
        self.is_whole = False
        """Whether all data has arrived: no more is accepted."""

    def apply(self, record: Record) -> None:
        """Apply DATA or ZERO. Raises QmonError that names the drive, StreamError if it is not allowed."""
        drive, is_copied = self._place(record)
        if is_copied:
            self._write(drive, record)
        else:
            with images.reading(drive):
                prove(drive, record, self._pulse)
        self._transfer.chains.add(record.drive, record.offset, record.length, record.checksum)

    def _write(self, drive: MigratingDrive, record: Record) -> None:
        self.has_written = True
        with images.writing(drive, record.offset, record.length):
            if record.kind is Kind.DATA:
                drive.node.write(record.offset, record.payload)
            else:
                drive.node.zero(record.offset, record.length, unmap=True)
        if record.kind is Kind.DATA:
            with self._figures:
                self._progress.transferred += record.length
                self._progress.arrived[drive.id] += record.length

    def _place(self, record: Record) -> tuple[MigratingDrive, bool]:
        """Return the drive of a record, and whether it is copied. Raises StreamError if it is not allowed."""
        offered, number = self._transfer.offered, record.drive
        if number >= len(offered) or not (offered[number].is_copied or offered[number].is_compared):
            raise StreamError(f"not a valid migration stream: drive {number} is not copied")
        if self.is_whole:
            raise StreamError(f"not a valid migration stream: {record.kind.name} came after FINISH")
        drive = offered[number].drive
        if record.offset + record.length > drive.size:
            raise StreamError(
                f"not a valid migration stream: {record.length} bytes at {record.offset} lie outside"
                f" drive '{drive.id}' of {drive.size} bytes"
            )
        return drive, offered[number].is_copied

    def compare(self, finish: Finish) -> None:
        """Compare what was applied to each region with what the source has sent. Raises StreamError."""
        chains = self._transfer.chains
        if chains.digest != finish.chains:
            raise StreamError(
                "what was written to the drives here differs from what the source has sent: migrate again"
            )
        self._progress.compared = chains.compared

    def flush(self) -> None:
        """Flush all that was applied. Raises QmonError."""
        for drive in self._transfer.copied:
            with images.flushing(drive):
                drive.node.flush()
                drive.forget_cached()

    def save_if_due(self) -> None:
        """Flush tables in memory now and then, so that a resume after a kill finds their data."""
        if self._transfer.can_resume and time.monotonic() - self._saved > SAVE_SECONDS:
            self._save()

    def save(self) -> None:
        """Flush tables in memory, if the migration can be resumed; a failure is only logged."""
        if self._transfer.can_resume:
            try:
                self._save()
            except QmonError as error:  # the resume compares what is there
                log.error("incoming migration: %s", error)

    def _save(self) -> None:
        self._saved = time.monotonic()
        for drive in self._transfer.copied:
            if drive.is_flushed_on_leaving:
                with images.flushing(drive):
                    drive.node.flush()
