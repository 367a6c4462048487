"""The dirty bitmaps that a migration takes along (the capability dirty-bitmaps), on both sides."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from qmon.block.bitmaps import MAX_CHUNKS, DirtyBitmap
from qmon.errors import CommandError, reason
from qmon.machine.bitmap_actions import check_usable
from qmon.machine.drive import Drive
from qmon.migration.wire.bitmaps import OFF_HERE, BitmapOffer
from qmon.migration.wire.offer import Mode

log = logging.getLogger("qmon.drive")

MAPPING = "block-bitmap-mapping"

MAX_ALL_CHUNKS = 2 * MAX_CHUNKS
"""The most chunks of all bitmaps of a migration together: what a source sends must not fill the memory."""

Mapped = Sequence[Mapping[str, Any]] | None
"""The parameter MAPPING (QAPI: BitmapMigrationNodeAlias); None: all, by their own names."""


def travelling(drives: Sequence[Drive], mode: Mode, mapping: Mapped) -> list[tuple[DirtyBitmap, BitmapOffer]]:
    """Return the bitmaps that go along, with their names on the way. Raises CommandError, with QEMU's words.

    Bitmaps of backing images stay, and those that are stored in an image that both sides have.
    """
    found: list[tuple[DirtyBitmap, BitmapOffer]] = []
    for drive in drives:
        if drive.read_only:
            continue
        for bitmap in reversed(list(drive.bitmaps())):
            alias = _alias(drive, bitmap.name, mapping)
            if alias is None or (mode is Mode.SHARED and bitmap.persistent):
                continue
            check_usable(bitmap)
            node, name, persistent = alias
            persistent = bitmap.persistent if persistent is None else persistent
            offer = BitmapOffer(node, name, bitmap.granularity, bitmap.recording, persistent)
            found.append((bitmap, offer))
    return found


def _alias(drive: Drive, name: str, mapping: Mapped) -> tuple[str, str, bool | None] | None:
    """Return the node's and the bitmap's alias, and whether the copy is to be persistent, if that is set."""
    if mapping is None:
        return drive.id, name, None
    for node in mapping:
        if node["node-name"] in (drive.names.top, drive.id):
            for bitmap in node["bitmaps"]:
                if bitmap["name"] == name:
                    return node["alias"], bitmap["alias"], bitmap.get("transform", {}).get("persistent")
    return None


class ArrivingBitmaps:
    """Bitmaps that are made and not yet shown, each with its drive."""

    def __init__(self, placed: Sequence[tuple[Drive, DirtyBitmap]]) -> None:
        self._placed = placed
        self.bitmaps = [bitmap for _, bitmap in placed]

    def put(self) -> None:
        """Add them to the drives, while the gates are closed. Runs on a data thread."""
        for drive, bitmap in self._placed:
            if drive.bitmaps().find(bitmap.name) is None:
                drive.bitmaps().add(bitmap)
                drive.track_writes()
            else:  # of a shared disk, which was changed since they were offered
                log.error(
                    "drive '%s' has a bitmap '%s': the one that came along is dropped", drive.id, bitmap.name
                )


class BitmapRoom:
    """The destination's side. ``mapping`` returns the parameter, ``is_on`` the capability."""

    def __init__(
        self, drives: Callable[[], Sequence[Drive]], mapping: Callable[[], Mapped], is_on: Callable[[], bool]
    ) -> None:
        self._drives = drives
        self._mapping = mapping
        self._is_on = is_on

    def make(self, offered: Sequence[BitmapOffer], *, is_agreed: bool) -> ArrivingBitmaps:
        """Return bitmaps without marks. Raises CommandError if they can't be taken."""
        if not (is_agreed or self._is_on()):
            raise CommandError(OFF_HERE)
        room = MAX_ALL_CHUNKS
        placed = []
        for offer in offered:
            drive, bitmap = self._new(offer)
            room -= bitmap.chunks
            if room < 0:
                raise CommandError("The dirty bitmaps would take too much memory: use a larger granularity")
            placed.append((drive, bitmap))
        return ArrivingBitmaps(placed)

    def _new(self, offer: BitmapOffer) -> tuple[Drive, DirtyBitmap]:
        drive, name, persistent = self._place(offer)
        stored = {each.shown_name for each in drive.layers[0].bitmaps}
        if name in stored or drive.bitmaps().find(name) is not None:
            raise CommandError(f"Bitmap with the same name ('{name}') already exists on destination")
        if drive.size // offer.granularity > MAX_CHUNKS:
            raise CommandError(f"Bitmap '{name}' would take too much memory: use a larger granularity")
        if persistent:
            try:
                _check_storable(drive, name, offer.granularity)
            except OSError as error:
                why = reason(error)
                raise CommandError(
                    f"Can't make bitmap '{name}' persistent in '{drive.names.top}' at the destination: {why}"
                ) from error
        return drive, DirtyBitmap(
            name, drive.size, offer.granularity, recording=offer.recording, persistent=persistent
        )

    def _place(self, offer: BitmapOffer) -> tuple[Drive, str, bool]:
        """Return the drive, the bitmap's name, and whether it is persistent. Raises CommandError."""
        mapping = self._mapping()
        if mapping is None:
            return self._drive(offer.node, offer.node), offer.name, offer.persistent
        nodes: Iterator[Mapping[str, Any]] = (each for each in mapping if each["alias"] == offer.node)
        if (node := next(nodes, None)) is None:
            raise CommandError(f"Unknown node alias '{offer.node}'")
        for bitmap in node["bitmaps"]:
            if bitmap["alias"] == offer.name:
                persistent = bitmap.get("transform", {}).get("persistent")
                drive = self._drive(node["node-name"], "")
                return drive, bitmap["name"], offer.persistent if persistent is None else persistent
        raise CommandError(
            f"Unknown bitmap alias '{offer.name}' on node '{node['node-name']}' (alias '{offer.node}')"
        )

    def _drive(self, name: str, device: str) -> Drive:
        for drive in self._drives():
            if name in (drive.id, drive.names.top):
                return drive
        raise CommandError(f"Cannot find device='{device}' nor node-name='{name}'")


def _check_storable(drive: Drive, name: str, granularity: int) -> None:
    """Raises OSError if the drive's image can't store one more bitmap. Of a closed one less is known."""
    if drive.is_active:
        drive.check_new_bitmap(0, name, granularity)
    elif drive.format == "raw":
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
