"""What is done to dirty bitmaps: each change is an action, alone or within a transaction."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qmon.block.bitmaps import (
    DEFAULT_GRANULARITY,
    MAX_CHUNKS,
    MAX_NAME_BYTES,
    MIN_GRANULARITY,
    Bitmaps,
    DirtyBitmap,
)
from qmon.block.flags import Flags
from qmon.errors import CommandError, reason
from qmon.machine.drive import Drive
from qmon.machine.machine import Machine
from qmon.machine.transaction import Action

log = logging.getLogger("qmon.drive")


@dataclass(frozen=True, slots=True)
class Place:
    """The node that bitmaps belong to: a drive's layer."""

    drive: Drive
    number: int

    @property
    def bitmaps(self) -> Bitmaps:
        return self.drive.bitmaps(self.number)


def find_place(machine: Machine, node: str) -> Place:
    """Return the place of a drive's id or a node's name. Raises CommandError with QEMU's message."""
    drive, name = machine.disks.find_node(node, node)
    number = drive.names.layer_of(name)
    if number is None:
        above = next(format_name for format_name, file_name in drive.names.pairs if file_name == name)
        raise CommandError(f"Node '{node}' is of a file: use the node above it, '{above}'")
    return Place(drive, number)


def find_bitmap(machine: Machine, node: str, name: str) -> tuple[Place, DirtyBitmap]:
    """Return a bitmap that must be there, and its place. Raises CommandError with QEMU's message."""
    try:
        machine.disks.find_node(node, node)
    except CommandError:
        raise CommandError(f"Node '{node}' not found") from None
    place = find_place(machine, node)
    bitmap = place.bitmaps.find(name)
    if bitmap is None:
        raise CommandError(f"Dirty bitmap '{name}' not found")
    return place, bitmap


def check_usable(bitmap: DirtyBitmap, *, to_write: bool = False, to_remove: bool = False) -> None:
    """Raises CommandError with QEMU's message if a bitmap can't be used.

    ``to_write``: its content is to be changed. ``to_remove``: it is to be removed.
    """
    if bitmap.busy:
        raise CommandError(
            f"Bitmap '{bitmap.name}' is currently in use by another operation and cannot be used"
        )
    if bitmap.read_only and (to_write or to_remove):
        raise CommandError(f"Bitmap '{bitmap.name}' is readonly and cannot be modified")
    if bitmap.inconsistent and not to_remove:
        raise CommandError(f"Bitmap '{bitmap.name}' is inconsistent and cannot be used")


class BitmapAction(Action):
    """An action on one bitmap of one node."""

    def __init__(self, machine: Machine, node: str, name: str) -> None:
        self._machine = machine
        self._node = node
        self._name = name

    def drives(self) -> list[Drive]:
        return drives_of(self._machine, [self._node])

    def _find(self) -> tuple[Place, DirtyBitmap]:
        return find_bitmap(self._machine, self._node, self._name)


def drives_of(machine: Machine, nodes: Sequence[str]) -> list[Drive]:
    """Return the drives that nodes belong to, as far as they are there."""
    found = []
    for node in nodes:
        try:
            found.append(machine.disks.find_node(node, node)[0])
        except CommandError:
            continue  # the action itself says so, in its turn
    return found


class AddBitmap(BitmapAction):
    """Adds a bitmap without marks."""

    def __init__(
        self,
        machine: Machine,
        node: str,
        name: str,
        granularity: int | None = None,
        persistent: bool | None = None,
        disabled: bool | None = None,
    ) -> None:
        super().__init__(machine, node, name)
        self._granularity = DEFAULT_GRANULARITY if granularity is None else granularity
        self._persistent = bool(persistent)
        self._disabled = bool(disabled)

    async def prepare(self) -> None:
        place = find_place(self._machine, self._node)
        granularity, name = self._granularity, self._name
        if not name:
            raise CommandError("Bitmap name cannot be empty")
        if granularity < MIN_GRANULARITY or granularity & (granularity - 1):
            raise CommandError("Granularity must be power of 2 and at least 512")
        if place.bitmaps.find(name) is not None:
            raise CommandError(f"Bitmap already exists: {name}")
        if self._persistent:
            self._check_storable(place)
        if len(name.encode(errors="surrogatepass")) > MAX_NAME_BYTES:
            raise CommandError(f"Bitmap name too long: {name}")
        size = place.drive.layer_size(place.number)
        if size // granularity > MAX_CHUNKS:
            raise CommandError(f"Bitmap '{name}' would take too much memory: use a larger granularity")
        self._bitmap = DirtyBitmap(
            name, size, granularity, recording=not self._disabled, persistent=self._persistent
        )
        place.bitmaps.add(self._bitmap)
        place.drive.track_writes()
        self._place = place

    def _check_storable(self, place: Place) -> None:
        drive, number = place.drive, place.number
        node = drive.names.pairs[number][0] if number else drive.id
        try:
            drive.check_new_bitmap(number, self._name, self._granularity)
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                raise CommandError(f"Can't store persistent bitmaps to {node}: {reason(error)}") from error
            raise CommandError(
                f"Can't make bitmap '{self._name}' persistent in '{node}': {reason(error)}"
            ) from error

    async def abort(self) -> None:
        self._place.bitmaps.remove(self._bitmap)
        self._place.drive.track_writes()


class RemoveBitmap(BitmapAction):
    """Removes a bitmap. Until the end of a transaction it is only in use, as in QEMU."""

    async def prepare(self) -> None:
        self._place, self._bitmap = self._find()
        check_usable(self._bitmap, to_remove=True)
        self._bitmap.busy = True

    async def commit(self) -> None:
        place, bitmap = self._place, self._bitmap
        try:
            await self._machine.blocking(place.drive.remove_bitmap, place.number, bitmap)
        except OSError as error:
            log.error(
                "drive '%s': bitmap '%s' can't be removed from the image, where it is inconsistent now: %s",
                place.drive.id,
                bitmap.name,
                reason(error),
            )

    async def abort(self) -> None:
        self._bitmap.busy = False


class ClearBitmap(BitmapAction):
    """Clears all marks."""

    async def prepare(self) -> None:
        _, self._bitmap = self._find()
        check_usable(self._bitmap, to_write=True)
        self._before = await self._machine.blocking(_clear, self._bitmap)

    async def abort(self) -> None:
        self._bitmap.replace(self._before)


class SwitchBitmap(BitmapAction):
    """Begins or ends the recording of writes."""

    def __init__(self, machine: Machine, node: str, name: str, *, on: bool) -> None:
        super().__init__(machine, node, name)
        self._on = on

    async def prepare(self) -> None:
        self._place, self._bitmap = self._find()
        check_usable(self._bitmap)
        self._before = self._bitmap.recording
        self._set(self._on)

    def _set(self, on: bool) -> None:
        self._bitmap.recording = on
        self._place.bitmaps.refresh()

    async def abort(self) -> None:
        self._set(self._before)


class MergeBitmaps(BitmapAction):
    """Marks in one bitmap what others mark; each of these is a name, or has a ``node`` and a ``name``."""

    def __init__(self, machine: Machine, node: str, target: str, bitmaps: Sequence[Any]) -> None:
        super().__init__(machine, node, target)
        self._sources = [
            (node, each) if isinstance(each, str) else (each["node"], each["name"]) for each in bitmaps
        ]

    def drives(self) -> list[Drive]:
        return drives_of(self._machine, [self._node, *(node for node, _ in self._sources)])

    async def prepare(self) -> None:
        _, target = self._find()
        check_usable(target, to_write=True)
        sources = []
        for node, name in self._sources:
            _, source = find_bitmap(self._machine, node, name)
            check_usable(source)
            if source.size != target.size:
                raise CommandError(
                    f"Bitmaps are of different sizes (destination size is {target.size}, source size is"
                    f" {source.size}) and can't be merged"
                )
            sources.append(source)
        self._bitmap = target
        self._before = await self._machine.blocking(_merge, target, sources)

    async def abort(self) -> None:
        self._bitmap.replace(self._before)


def _clear(bitmap: DirtyBitmap) -> Flags:
    """Clear all marks, and return the flags from before."""
    before = bitmap.flags()
    bitmap.clear()
    return before


def _merge(target: DirtyBitmap, sources: Sequence[DirtyBitmap]) -> Flags:
    """Merge, and return the flags from before."""
    before = target.flags()
    for source in sources:
        target.merge(source)
    return before
