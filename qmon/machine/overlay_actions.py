"""Snapshots by a new overlay: each is an action, alone or within a transaction."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from dataclasses import replace

from qmon.block.image import FORMATS
from qmon.block.qcow2.header import Qcow2Error
from qmon.errors import CommandError, reason
from qmon.machine.conflicts import backing_of
from qmon.machine.drive import Drive
from qmon.machine.machine import Machine
from qmon.machine.media import add_drive, put_away
from qmon.machine.transaction import Action
from qmon.notation.drive_options import DriveOptions
from qmon.notation.file_names import is_same_file, without_protocol
from qmon.notation.node_names import refusal

SNAPSHOT = "snapshot"
"""The user of a drive in messages about a busy drive."""

log = logging.getLogger("qmon.machine")


class OverlayAction(Action):
    """Puts an overlay on a drive's image; undone, it takes it off again."""

    _take_off: Callable[[], None]
    _below: str
    _resting: DriveOptions | None

    def __init__(self, machine: Machine, device: str | None, node_name: str | None) -> None:
        self._machine = machine
        self._device = device
        self._node_name = node_name

    def drives(self) -> list[Drive]:
        try:
            return [self._topmost()]
        except CommandError:
            return []  # ``prepare`` says so, in its turn

    def _topmost(self) -> Drive:
        """Return a drive by its id or its topmost node. Raises CommandError if the node is below another."""
        try:
            return self._machine.disks.find_drive(self._device, self._node_name)
        except CommandError:
            for drive in self._machine.drives.values():
                for (above, _), (below, _) in itertools.pairwise(drive.names.pairs):
                    if self._node_name == below:
                        raise backing_of(below, above) from None
            raise

    def _check_lasts(self, drive: Drive) -> None:
        if drive.chain.is_temporary:
            raise CommandError(
                f"drive '{drive.id}' writes to a temporary overlay (snapshot=on), on which no other can rest:"
                " start without snapshot"
            )

    async def _put(
        self, drive: Drive, file: str, name: str | None, *, create: bool, node: DriveOptions | None = None
    ) -> None:
        """Put the overlay on top. Raises OSError; then nothing has changed."""
        machine = self._machine
        self._below = drive.names.shown
        self._resting = machine.disks.nodes.resting.get(self._below)
        self._take_off = await machine.blocking(drive.put_overlay, file, create=create, name=name, node=node)
        machine.disks.nodes.note(drive)

    async def abort(self) -> None:
        await self._undo()

    async def _undo(self) -> bool:
        """Take the overlay off again; return whether it worked."""
        try:
            await self._machine.blocking(self._take_off)
        except OSError as error:
            log.error("the overlay on node '%s' can't be taken off again: %s", self._below, reason(error))
            return False
        if self._resting is not None:
            self._machine.disks.nodes.resting[self._below] = self._resting
        return True


class SnapshotToFile(OverlayAction):
    """``blockdev-snapshot-sync``: the overlay is a new file, or one that is no node yet.

    Unlike QEMU, an existing overlay must be empty and on this image, and no file is overwritten. Undone, it
    removes the file that it made.
    """

    def __init__(
        self,
        machine: Machine,
        snapshot_file: str,
        device: str | None = None,
        node_name: str | None = None,
        snapshot_node_name: str | None = None,
        format: str | None = None,
        mode: str | None = None,
    ) -> None:
        super().__init__(machine, device, node_name)
        self._file = snapshot_file
        self._name = snapshot_node_name
        self._format = format or "qcow2"
        self._existing = mode == "existing"

    async def prepare(self) -> None:
        machine = self._machine
        drive = self._topmost()
        if self._node_name is not None and self._name is None:
            raise CommandError("New overlay node-name missing")
        self._check_format()
        self._check_lasts(drive)
        if self._name is not None:
            self._check_node_name(self._name, drive)
        file = without_protocol(self._file)
        verb = "open" if self._existing else "create"
        try:
            if await machine.blocking(is_same_file, file, drive.image):
                raise CommandError(
                    f"Could not open '{file}': it is the drive's image itself"
                    if self._existing
                    else "Error: Trying to create an image with the same filename as the backing file"
                )
            looked_at = file if self._existing else os.path.dirname(file) or "."
            await machine.blocking(os.stat, looked_at)
            await self._put(drive, file, self._name, create=not self._existing)
        except Qcow2Error as error:
            raise CommandError(reason(error)) from error
        except (OSError, ValueError) as error:
            raise CommandError(f"Could not {verb} '{file}': {reason(error)}") from error
        machine.disks.nodes.freeze(self._below)

    def _check_format(self) -> None:
        if self._format not in FORMATS:
            what = "driver" if self._existing else "file format"
            raise CommandError(f"Unknown {what} '{self._format}'")
        if self._format == "raw":
            raise CommandError(
                "The overlay does not support backing images"
                if self._existing
                else "Backing file not supported for file format 'raw'"
            )

    def _check_node_name(self, name: str, drive: Drive) -> None:
        machine = self._machine
        if name in machine.disks.node_names or name in machine.drives:
            raise CommandError("New overlay node-name already in use")
        refused = refusal(name, drive.id, machine.disks.node_names, machine.disks.devices)
        if refused is not None:
            raise CommandError(refused)


class SnapshotToNode(OverlayAction):
    """``blockdev-snapshot``: the overlay is a node already. Unlike QEMU, it must be empty."""

    def __init__(
        self, machine: Machine, is_exported: Callable[[Drive], bool], node: str, overlay: str
    ) -> None:
        super().__init__(machine, node, node)
        self._is_exported = is_exported
        self._overlay = overlay

    def drives(self) -> list[Drive]:
        overlay = self._machine.drives.get(self._overlay)
        return super().drives() + ([] if overlay is None else [overlay])

    async def prepare(self) -> None:
        machine, overlay = self._machine, self._overlay
        drive = self._topmost()
        top, lower = machine.disks.find_node(overlay, overlay)
        if top is drive or lower is not None or not top.settings.is_node or self._is_exported(top):
            raise CommandError("The overlay is already in use")
        if len(top.layers) > 1:
            raise CommandError("The overlay already has a backing image")
        if top.format != "qcow2" or top.chain.has_filter:
            raise CommandError("The overlay does not support backing images")
        self._check_lasts(drive)
        self._drive, self._settings = drive, top.names.settings_to_keep
        self._former = drive.names.settings_to_keep
        del machine.disks.devices[top.id]
        await put_away(machine, top)
        try:
            await self._put(drive, self._settings.file, overlay, create=False, node=self._settings)
        except OSError as error:
            await add_drive(machine, self._settings)
            raise CommandError(f"Could not use '{overlay}' as overlay: {reason(error)}") from error

    async def abort(self) -> None:
        if await self._undo():
            await add_drive(self._machine, self._settings)

    async def finish(self) -> None:
        machine, drive = self._machine, self._drive
        if self._former.is_node and self._former.id == self._below:
            machine.disks.rename(drive, self._overlay)
            machine.disks.nodes.rest(self._former)
        else:
            machine.disks.nodes.rest(replace(self._settings, backing=drive.settings.backing))
        machine.disks.nodes.freeze(self._below)
