"""A drive: a chain of nodes that the operator knows by its id, and the gate that can hold its requests."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from qmon.block.bitmaps import Bitmaps, DirtyBitmap
from qmon.block.file import Discards
from qmon.block.gate import Gate
from qmon.block.image import FileIdentity, ImageNode, identify, images_of
from qmon.block.image_file import ImageFile
from qmon.block.inactive import InactiveNode
from qmon.block.layers import Layer
from qmon.block.node import Node
from qmon.block.qcow2.internal_snapshots import InternalSnapshots
from qmon.block.qcow2.snapshots import Snapshot
from qmon.block.read_only_file import ReadOnlyFile
from qmon.block.recent import RecentWrites
from qmon.machine.device import Device
from qmon.machine.drive_chain import DriveChain
from qmon.machine.drive_overlays import DriveOverlays
from qmon.machine.drive_stack import DriveStack
from qmon.machine.guest_disk import GuestDisk
from qmon.machine.kept_bitmaps import KeptBitmaps
from qmon.machine.node_names import NodeNames
from qmon.notation.drive_options import DriveOptions

CLOSING = "closing"
"""The reason for closing the gate of a drive that is being removed."""


class Drive:
    """A drive is inactive until ``activate`` opens and locks its image. All methods may block.

    The constructor reads the image's header, without a lock. Raises OSError.
    """

    def __init__(self, settings: DriveOptions, new_name: Callable[[], str]) -> None:
        """``new_name`` returns an unused name for a node."""
        self.chain = DriveChain(settings)
        self.names = NodeNames(self.chain, new_name)
        self.stack = DriveStack(self.chain, self.names)
        """The nodes that requests pass through."""
        self.overlays = DriveOverlays(self.chain, self.names, self.stack)
        self.gate = Gate()
        device = Device(settings.id, settings.read_only, is_node=settings.is_node)
        self.guest = GuestDisk(device, self.gate, self.stack)
        self.is_waiting = False
        """Whether the image stays closed until its first use, because another drive has it open."""
        self._left: tuple[FileIdentity, ...] | None = None
        """The identities of the image's files when it was released to another process; it may come back."""
        self._kept_bitmaps = KeptBitmaps()

    @property
    def id(self) -> str:
        return self.settings.id

    def rename(self, id: str) -> None:
        """Give the drive and its device another id."""
        self.chain.settings = replace(self.settings, id=id)
        self.guest.device.id = id

    @property
    def settings(self) -> DriveOptions:
        return self.chain.settings

    @property
    def format(self) -> str:
        """The topmost image's format."""
        return self.chain.format

    @property
    def image(self) -> str:
        """The image's file; below a temporary overlay, the one that stays."""
        return self.chain.image

    @property
    def read_only(self) -> bool:
        return self.settings.read_only

    @property
    def layers(self) -> list[Layer]:
        """The image and its backing images, as of the last time it was opened or read.

        Of an open image's bitmaps those are listed that are in its file.
        """
        known, images = self.chain.layers, self.stack.images
        found = [
            layer if layer.bitmaps == image.listed_bitmaps else replace(layer, bitmaps=image.listed_bitmaps)
            for layer, image in zip(known, images, strict=False)
        ]
        return [*found, *known[len(images) :]]

    @property
    def node(self) -> Node:
        """The top of the stack; requests to it are not throttled."""
        return self.stack.top

    def node_below(self, name: str) -> Node:
        """Return the node with a name, to read the bytes that it holds; the drive's other requests go on.

        A node that holds the disk's own bytes is the whole disk. Raises OSError if the node is gone.
        """
        for number, (format_name, file_name) in enumerate(self.names.pairs):
            if name not in (format_name, file_name):
                continue
            is_file = name != format_name
            if number == 0 and (not is_file or self.format == "raw"):
                return self.node
            layer, images = self.layers[number], self.stack.images
            if number >= len(images):
                return InactiveNode(layer.size, read_only=True)
            image = images[number]
            return ReadOnlyFile(image.files[0]) if is_file else image
        raise OSError(errno.ENODEV, f"the node '{name}' was removed")

    @property
    def size(self) -> int:
        return self.node.size

    def layer_size(self, number: int) -> int:
        """Return the virtual size of a layer of the open image in bytes."""
        return self.size if number == 0 else self.stack.images[number].size

    @property
    def backing_size(self) -> int | None:
        """The virtual size of the backing image in bytes, None without one."""
        if self.is_active:
            return None if self.node.backing is None else self.node.backing.size
        return self.layers[1].size if len(self.layers) > 1 else None

    # Opening and closing.

    @property
    def is_active(self) -> bool:
        """Whether the image is open and locked here."""
        return self.stack.is_open

    def probe(self) -> None:
        """Read the image's size again, unless the drive is active. Raises OSError."""
        if not self.is_active:
            self.chain.look()
            self.stack.hide(self.layers[0].size)

    def activate(self) -> None:
        """Open the image and lock it like a guest's disk, unless the drive is active. Raises OSError."""
        if not self.is_active:
            changed = self._kept_bitmaps.are_outdated()
            image = self.chain.open()
            if self._left not in (None, identify(image)):
                image.close()
                raise OSError(errno.ESTALE, "it was removed or replaced after the migration had released it")
            self._kept_bitmaps.give_back(list(images_of(image)), changed=changed)
            self._left = None
            self.stack.show(image)
            self.chain.look()

    @property
    def is_flushed_on_leaving(self) -> bool:
        """Whether ``deactivate`` always flushes, because tables of the image may be in memory only."""
        return self.is_active and not self.read_only and self.stack.image.has_cached_tables

    def deactivate(self, *, flush: bool = True) -> None:
        """Flush, close the image and release its locks, unless the drive is inactive.

        With ``flush`` False the file is not flushed, except if ``is_flushed_on_leaving``. Raises OSError if
        the flush fails; then the drive stays active.
        """
        if self.is_active:
            if self.is_flushed_on_leaving or (flush and not self.read_only):
                self.node.flush()
                if self.chain.is_temporary:
                    self.stack.image.flush()  # it is opened again if the migration fails
            self._left = self.identify()
            self._close()
            self._kept_bitmaps.note_release()

    def abandon(self) -> None:
        """Close the image without a flush. Writes since the last flush may be lost."""
        if self.is_active:
            self._close()

    def close(self) -> None:
        """Refuse new requests and close the image. Raises OSError if the flush fails; it is closed even then.

        Requests that are under way end first: after the close their descriptor may belong to another file.
        """
        self.gate.shut()
        if not self.is_active:
            self.node.close()  # requests that wait for another host
        self.gate.close(CLOSING)
        if self.is_active:
            try:
                if not self.read_only:
                    self.node.flush()
            finally:
                self._close()
        self.chain.close()

    def _close(self) -> None:
        self.chain.layers = self.layers
        node = self.node
        self._kept_bitmaps.keep(self.stack.images)
        self.stack.hide(node.size)
        node.close()

    def reopen(self, settings: DriveOptions) -> None:
        """Open the image again with other options: read-only or not, on another backing image.

        The drive must not be in use. Raises OSError; then nothing has changed.
        """
        wanted = replace(self.chain.now, settings=settings)
        image = self.chain.open_again(self.stack.image, wanted)
        if settings.backing != self.settings.backing:
            self.names.forget_below()
        self.chain.now = wanted
        self.guest.device.read_only = settings.read_only
        self.stack.show(image)
        self.chain.look()

    def open_to_fill(self) -> None:
        """Open and lock the image of an active read-only drive for writing, until ``end_filling``.

        The drive must not be in use. Raises OSError; then the image stays open read-only.
        """
        self._change_access(read_only=False)

    def end_filling(self) -> None:
        """Flush, and open the image of a read-only drive read-only again, if it is open for writing.

        The drive must not be in use. Raises OSError.
        """
        if self.read_only and self.is_active and not self.stack.image.read_only:
            self._change_access(read_only=True)

    def _change_access(self, *, read_only: bool) -> None:
        files = self.identify()
        self.stack.show(self.chain.open_again(self.stack.image, read_only=read_only))
        if self.identify() != files:
            raise OSError(errno.ESTALE, "it was removed or replaced while it was open")

    # The files of the open image.

    @property
    def file(self) -> ImageFile:
        """The file of the open image. Raises OSError if none is open."""
        return self.stack.image.files[0]

    def identify(self) -> tuple[FileIdentity, ...]:
        """Return the identities of the open image's files. Raises OSError."""
        return self.stack.identify()

    def check_name(self) -> None:
        """Raises OSError if the name of the open image or a backing image leads to another file now."""
        for image in self.stack.images:
            for file in image.files:
                file.check_name()

    def open_to_compare(self) -> ImageNode:
        """As MigratingDrive says."""
        return self.chain.open_to_compare()

    @contextmanager
    def sparing_page_cache(self) -> Iterator[None]:
        """As MigratingDrive says."""
        files = [file for image in self.stack.images for file in image.files]
        for file in files:
            file.spare_page_cache()
        try:
            yield
        finally:
            for file in files:
                file.use_page_cache()

    def forget_cached(self) -> None:
        """Drop what the page cache has of the open image, but not of its backing images. Raises OSError."""
        for file in self.stack.image.files:
            file.forget_cached()

    def leave_to_backing(self, offset: int, length: int) -> None:
        """Free the overlay's clusters in a range, given in bytes; then the backing image is read there.

        The drive must not be in use. Raises OSError.
        """
        image = self.stack.image
        image.leave_to_backing(offset, length)
        image.bitmaps.mark(offset, length)

    def discards(self, number: int) -> Discards:
        """Return the discard statistics of a layer's file since it was opened."""
        images = self.stack.images
        return images[number].files[0].discards if number < len(images) else Discards()

    # What images hold besides the disk's bytes.

    @property
    def recent(self) -> RecentWrites:
        """The guests' last writes since the drive was added."""
        return self.stack.recent

    def bitmaps(self, number: int = 0) -> Bitmaps:
        """Return the dirty bitmaps of a layer, also while its image is closed.

        After the first is added or the last is removed, call ``track_writes``.
        """
        images = self.stack.images
        return images[number].bitmaps if number < len(images) else self._kept_bitmaps.of(number)

    def check_new_bitmap(self, number: int, name: str, granularity: int) -> None:
        """Raises OSError that says why a layer can't store one more bitmap; ENOTSUP if it can store none."""
        self.stack.images[number].check_new_bitmap(name, granularity)

    def remove_bitmap(self, number: int, bitmap: DirtyBitmap) -> None:
        """Remove a bitmap of a layer, also from its file. After an OSError it is still in the file."""
        self.bitmaps(number).remove(bitmap)
        self.track_writes()
        self.stack.images[number].remove_bitmap(bitmap)

    def track_writes(self) -> None:
        """Mark writes to the open image as long as it has bitmaps. No request may be inside the gate."""
        self.stack.track_writes()

    @property
    def snapshots(self) -> list[Snapshot]:
        """Return the internal snapshots of the open image, in the order of its snapshot table."""
        return list(self.stack.image.snapshots) if self.is_active else []

    @property
    def internal_snapshots(self) -> InternalSnapshots:
        """The object that takes, deletes and applies snapshots. Call ``chain.look`` after a change.

        The drive must not be in use. Raises OSError.
        """
        return self.stack.image.internal

    def put_overlay(
        self, file: str, *, create: bool, name: str | None, node: DriveOptions | None = None
    ) -> Callable[[], None]:
        """As DriveOverlays says."""
        return self.overlays.put(file, create=create, name=name, node=node)

    def commit(self) -> None:
        """As DriveOverlays says."""
        self.overlays.commit()
