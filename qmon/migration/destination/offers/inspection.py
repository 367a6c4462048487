"""Checks an offer against the destination's drives, without a lock and without a change.

The images are opened a second time, read-only, so that nothing here disturbs a migration that begins
meanwhile. All mismatches are collected, not only the first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator

from qmon.block.extents import visible_extents
from qmon.block.image import ImageNode, check_locks
from qmon.block.node import Kind
from qmon.errors import QmonError
from qmon.migration.backing import Pulse, backing_mismatch, overlay_mismatch
from qmon.migration.destination.images import opening, reading
from qmon.migration.destination.inventory import Inventory
from qmon.migration.destination.offers.read_only import Finding, find, not_fillable
from qmon.migration.destination.offers.settings import refusals
from qmon.migration.destination.offers.space import Space
from qmon.migration.destination.options import Options
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.fit import differences, misfits
from qmon.migration.wire.offer import Answers, BackingOffer, DriveOffer, Mode, Offer, OfferError
from qmon.migration.wire.report import Report
from qmon.notation.nbd_names import is_export


class _TooLongError(QmonError):
    """The comparison of contents has taken too long."""


class Inspection:
    """Compares one offer with the drives here.

    ``options`` are those of this side. ``pulse`` is called at least once per MiB read; what it raises is
    passed on. Contents are compared for ``seconds`` at most.
    """

    def __init__(self, here: Inventory, options: Options, offer: Offer, pulse: Pulse, seconds: float) -> None:
        self._options = options
        self._offer = offer
        self._drives = {drive.id: drive for drive in here.drives}
        self._empty = here.empty
        self._uuid = here.uuid
        self._leftovers = here.leftovers
        self._pulse = pulse
        self._seconds = seconds
        self._until = 0.0
        self._mismatches: list[str] = []
        self._warnings: list[str] = []
        self._needed: list[int] = []
        self._space = Space()

    def look(self, *, contents: bool) -> Report:
        """Return what was found. Without ``contents`` backing images and read-only drives are not read."""
        self._mismatches, self._warnings, self._needed, self._space = [], [], [], Space()
        self._until = time.monotonic() + self._seconds
        self._mismatches += refusals(self._offer, self._options)
        with contextlib.ExitStack() as stack:
            nodes = dict(self._open_all(stack))
            here = [self._describe(drive, nodes.get(drive.id)) for drive in self._drives.values()]
            self._mismatches += misfits(self._offer, here, self._uuid, self._empty)
            known = {drive.id: drive for drive in here}
            for index, offered in enumerate(self._offer.drives):
                node = nodes.get(offered.id)
                if node is not None and not any(differences(self._offer.mode, offered, known[offered.id])):
                    self._examine(index, offered, self._drives[offered.id], node, contents=contents)
        self._mismatches += self._space.mismatches()
        self._warnings += self._space.warnings()
        return Report(tuple(self._mismatches), tuple(self._warnings), tuple(self._needed))

    def _open_all(self, stack: contextlib.ExitStack) -> Iterator[tuple[str, ImageNode]]:
        for drive in self._drives.values():
            try:
                with opening(drive, OfferError):
                    node = drive.open_to_compare()
            except OfferError as error:
                self._mismatches.append(str(error))
                continue
            stack.callback(node.close)
            yield drive.id, node

    def _describe(self, drive: MigratingDrive, node: ImageNode | None) -> DriveOffer:
        """Return a drive as it is here; one that can't be opened as it is offered: its error is told."""
        if node is None:
            offered = next((each for each in self._offer.drives if each.id == drive.id), None)
            return offered or DriveOffer(drive.id, drive.size, drive.read_only)
        backing = None if node.backing is None else BackingOffer(node.backing.size)
        return DriveOffer(drive.id, node.size, drive.read_only, backing)

    def _examine(
        self, index: int, offered: DriveOffer, drive: MigratingDrive, node: ImageNode, *, contents: bool
    ) -> None:
        """Check a drive whose size and kind match."""
        if self._offer.mode is Mode.SHARED:
            return  # the source has the image until the end, and compares the contents
        try:
            with opening(drive, OfferError):
                if not drive.identify():  # it is not open here
                    _check_open(drive, node)
            with reading(drive, OfferError):
                is_copied = self._examine_contents(index, offered, drive, node, contents=contents)
                if is_copied:
                    self._space.add(drive.id, node, offered.amount)
        except _TooLongError:
            self._warnings.append(
                f"drive '{drive.id}': not all that the migration compares was compared: it takes longer than"
                f" {self._seconds:g} s"
            )
        except OfferError as error:
            self._mismatches.append(str(error))

    def _examine_contents(
        self, index: int, offered: DriveOffer, drive: MigratingDrive, node: ImageNode, *, contents: bool
    ) -> bool:
        """Return whether the drive would be copied. Raises OfferError, OSError, _TooLongError."""
        if offered.read_only:
            return contents and self._would_be_copied(index, offered, drive, node)
        if offered.backing is not None:
            if contents and (wrong := backing_mismatch(drive.id, node.backing, offered.backing, self._tick)):
                self._mismatches.append(wrong)
            if not self._leftovers.would_be_emptied(drive.image) and (
                wrong := overlay_mismatch(drive.id, node)
            ):
                self._mismatches.append(wrong)
        elif (contents or self._offer.answers is Answers.UNHEARD) and _holds_data(node):
            self._warnings.append(f"drive '{drive.id}': its image is not empty, and is overwritten")
        return True

    def _would_be_copied(
        self, index: int, offered: DriveOffer, drive: MigratingDrive, node: ImageNode
    ) -> bool:
        """Return whether a drive that is read-only at the source would be copied. Raises as above."""
        is_leftover = self._leftovers.would_be_emptied(drive.image)
        finding = find(drive, node, offered.content, is_leftover=is_leftover, pulse=self._tick)
        if finding in (Finding.EQUAL, Finding.UNCOMPARED):
            return False
        if finding is not Finding.WRITABLE and not _is_writable(drive.image):
            if finding is Finding.EMPTY_UNCOMPARED:
                return False
            raise not_fillable(drive, os.strerror(errno.EACCES))
        self._needed.append(index)
        return True

    def _tick(self) -> None:
        self._pulse()
        if time.monotonic() > self._until:
            raise _TooLongError


def _holds_data(node: ImageNode) -> bool:
    return any(extent.kind is Kind.DATA for extent in visible_extents(node, 0, node.size))


def _check_open(drive: MigratingDrive, node: ImageNode) -> None:
    """Check that a closed image could be opened and locked. Raises OSError."""
    check_locks(node, read_only=drive.read_only)
    if not drive.read_only and not _is_writable(drive.image):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _is_writable(path: str) -> bool:
    # Not by opening it: closing a block device that was open for writing makes the system look at it anew.
    return is_export(path) or os.access(path, os.W_OK, effective_ids=True)
