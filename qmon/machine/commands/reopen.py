"""blockdev-reopen: opens nodes again with other options (QAPI: block-core.json)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from qmon.errors import CommandError, reason
from qmon.machine.conflicts import backing_of
from qmon.machine.drive import Drive
from qmon.machine.exports import Exports
from qmon.machine.holding import holding
from qmon.machine.machine import Machine
from qmon.machine.media import add_drive, put_away, wake_nodes
from qmon.notation.drive_options import DriveOptions
from qmon.notation.driver_options import THROTTLE, Flat, check_image
from qmon.notation.image_spec import Backing, ImageSpec
from qmon.notation.node_reader import NodeReader, flatten
from qmon.qmp.registry import command

REOPEN = "blockdev-reopen"

log = logging.getLogger("qmon.machine")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node is: its drive and the layer's number, and whether it is the layer's file or a filter."""

    name: str
    drive: Drive
    number: int
    is_file: bool = False
    is_filter: bool = False

    @property
    def is_top(self) -> bool:
        """Whether it is what guests write to; a filter above it changes nothing."""
        return self.number == 0 and not self.is_file and not self.is_filter


@dataclass(frozen=True, slots=True)
class _Backing:
    """What is to back an image, and the drive that it was until now."""

    spec: Backing
    attached: Drive | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    """What is to become of a node. ``settings`` are None for a node below another: it is never written."""

    place: _Place
    read_only: bool
    settings: DriveOptions | None = None
    attached: Drive | None = None


class ReopenCommands:
    """All nodes of one command are reopened, or none."""

    def __init__(self, machine: Machine, exports: Exports) -> None:
        self._machine = machine
        self._exports = exports

    @command("blockdev-reopen")
    async def reopen(self, options: list[dict[str, Any]]) -> dict[str, Any]:
        """Reopen nodes. As in QEMU, an option that is left out gets its default."""
        changes = [self._plan(flatten(each)) for each in options]
        drives = list(dict.fromkeys(change.place.drive for change in changes))
        for change in changes:
            if change.attached in drives:
                raise CommandError(
                    f"Node '{change.attached.id}' can't be reopened while it becomes a backing node"
                )
        async with holding(self._machine, drives, REOPEN):
            await self._apply_all(changes)
        await wake_nodes(self._machine)
        return {}

    def _plan(self, options: dict[str, Any]) -> _Change:
        """Check the options of one node. Raises CommandError or UsageError."""
        name = options.get("node-name")
        if name is None:
            raise CommandError("node-name not specified")
        place, driver = self._find(name), options["driver"]
        if place.is_filter:
            return self._plan_filter(place, options)
        layer = place.drive.layers[place.number]
        is_bare = place.is_file or place.drive.names.is_bare(place.number)
        if driver != (layer.file_driver if is_bare else layer.format):
            raise _unchangeable("driver")
        if is_bare:
            if options.get("filename") not in (layer.file, layer.name):
                raise _unchangeable("filename")
            return self._plan_layer(place, NodeReader().read(options), _Backing(place.drive.settings.backing))
        self._check_file(place, options)
        backing = self._backing(place, options)
        given = {name: value for name, value in options.items() if name not in ("file", "backing")}
        spec = NodeReader().read({**given, "file.driver": layer.file_driver, "file.filename": layer.file})
        if layer.header is not None:
            check_image(dict(spec.qcow2), layer.header.cluster_size, layer.header.version)
        return self._plan_layer(place, spec, backing)

    def _find(self, name: str) -> _Place:
        for drive in self._machine.drives.values():
            if drive.chain.has_filter and name == drive.id:
                return _Place(name, drive, 0, is_filter=True)
            for number, (format_name, file_name) in enumerate(drive.names.pairs):
                if name in (format_name, file_name):
                    return _Place(name, drive, number, is_file=name != format_name)
        raise CommandError(f"Failed to find node with node-name='{name}'")

    def _plan_filter(self, place: _Place, options: Flat) -> _Change:
        """A throttle filter can only stay as it is."""
        if options["driver"] != THROTTLE:
            raise _unchangeable("driver")
        if options["throttle-group"] != place.drive.settings.group:
            raise _unchangeable("throttle-group")
        self._check_file(place, options)
        return _Change(place, place.drive.read_only)

    def _check_file(self, place: _Place, options: Flat) -> None:
        """Check that a node keeps the one below it. Raises CommandError."""
        if "file" not in options:
            raise _unchangeable("file.driver")
        format_name, file_name = place.drive.names.pairs[place.number]
        if options["file"] != (format_name if place.is_filter else file_name):
            self._machine.disks.find_node(None, options["file"])
            raise _unchangeable("file")

    def _backing(self, place: _Place, options: Flat) -> _Backing:
        """Return what is to back a node of a format. Raises CommandError."""
        if any(name.startswith("backing.") for name in options):
            raise _unchangeable("backing.driver")
        drive = place.drive
        below = [name for name, _ in drive.names.pairs[place.number + 1 :][:1]]
        if "backing" not in options:
            if below:
                raise CommandError(f"backing is missing for '{place.name}'")
            return _Backing(drive.settings.backing)
        name = options["backing"] or None
        if [name] == below:
            return _Backing(drive.settings.backing)
        if place.number > 0 and (name is not None or below):
            raise backing_of(place.name, drive.names.pairs[place.number - 1][0])
        return _Backing(None) if name is None else self._attached(place, name)

    def _attached(self, place: _Place, name: str) -> _Backing:
        if name == place.name:
            raise CommandError(f"Making '{name}' a backing child of '{name}' would create a cycle")
        other, node = self._machine.disks.find_node(None, name)
        spec = self._machine.disks.find_image(name)
        if node is not None or not other.settings.is_node:
            return _Backing(spec)
        if self._exports.exports_of(other.id):
            raise CommandError(f"Node '{name}' is exported: remove its exports first")
        return _Backing(spec, other)

    def _plan_layer(self, place: _Place, spec: ImageSpec, backing: _Backing) -> _Change:
        drive = place.drive
        if not place.is_top:
            return _Change(place, spec.read_only)
        if drive.chain.is_temporary:
            raise CommandError(f"drive '{drive.id}' writes to a temporary overlay (snapshot=on)")
        if spec.is_shared != drive.settings.is_shared:
            raise _unchangeable("force-share")
        if spec.read_only and self._exports.is_written(drive):
            raise CommandError(f"Read-only block node '{place.name}' cannot support read-write users")
        settings = replace(
            drive.settings,
            read_only=spec.read_only,
            detect_zeroes=spec.detect_zeroes,
            qcow2=spec.qcow2,
            backing=backing.spec,
        )
        return _Change(place, spec.read_only, settings, backing.attached)

    async def _apply_all(self, changes: Sequence[_Change]) -> None:
        done: list[tuple[Drive, DriveOptions, DriveOptions | None]] = []
        try:
            for change in changes:
                if change.settings is not None:
                    before = change.place.drive.settings
                    done.append((change.place.drive, before, await self._apply(change, change.settings)))
        except BaseException:
            for drive, before, resting in reversed(done):
                await self._undo(drive, before, resting)
            raise
        nodes = self._machine.disks.nodes
        for change in changes:
            name = change.place.name
            if name in nodes.resting:
                nodes.resting[name] = replace(nodes.resting[name], read_only=change.read_only)
            elif change.settings is None and not change.place.is_filter:
                nodes.read_only[name] = change.read_only
            nodes.note(change.place.drive)
        for _, _, resting in done:
            if resting is not None:
                nodes.rest(resting)

    async def _apply(self, change: _Change, settings: DriveOptions) -> DriveOptions | None:
        """Reopen a topmost node; return what opens the drive that backs it now and was none before."""
        machine, resting = self._machine, None
        if change.attached is not None:
            with machine.use.changing(change.attached, REOPEN):
                resting = change.attached.names.settings_to_keep
                del machine.disks.devices[change.attached.id]
                await put_away(machine, change.attached)
        try:
            await machine.blocking(change.place.drive.reopen, settings)
        except OSError as error:
            if resting is not None:
                await add_drive(machine, resting)
            raise CommandError(f"Could not reopen '{change.place.name}': {reason(error)}") from error
        return resting

    async def _undo(self, drive: Drive, before: DriveOptions, resting: DriveOptions | None) -> None:
        machine = self._machine
        try:
            await machine.blocking(drive.reopen, before)
        except OSError as error:
            log.error("drive '%s' can't be reopened as it was: %s", drive.id, reason(error))
        if resting is not None:
            await add_drive(machine, resting)


def _unchangeable(option: str) -> CommandError:
    return CommandError(f"Cannot change the option '{option}'")
