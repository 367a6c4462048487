"""A drive: a chain of nodes that the operator knows by its id, and the gate that can hold its requests."""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from qmon.block.bitmaps import BitmapFilter, Bitmaps, DirtyBitmap
from qmon.block.chain import commit, put_overlay, reopened
from qmon.block.detect_zeroes import DetectZeroesFilter
from qmon.block.faults import FaultFilter, Faults
from qmon.block.file import Discards, FileNode
from qmon.block.gate import Gate
from qmon.block.guessed import GuessedRawFilter
from qmon.block.image import (
    FileIdentity,
    ImageNode,
    identify,
    images_of,
    look_at_image,
    open_image,
)
from qmon.block.inactive import InactiveNode, not_open
from qmon.block.layers import Layer, keep_names, spec_of, wrong_driver
from qmon.block.node import Node
from qmon.block.probe import probe_format
from qmon.block.qcow2.internal_snapshots import InternalSnapshots
from qmon.block.qcow2.node import Qcow2Node
from qmon.block.qcow2.snapshots import Snapshot
from qmon.block.read_only_file import ReadOnlyFile
from qmon.block.recent import RecentFilter, RecentWrites
from qmon.block.stack import NodeStack
from qmon.block.unflushed import UnflushedFilter
from qmon.block.write_threshold import ThresholdFilter, WriteThreshold
from qmon.errors import CommandError
from qmon.machine.device import Device
from qmon.machine.guest_disk import GuestDisk
from qmon.machine.kept_bitmaps import KeptBitmaps
from qmon.machine.names_of_nodes import NamesOfNodes
from qmon.machine.temporary_overlay import TemporaryOverlay, on_top
from qmon.notation.drive_options import DriveOptions
from qmon.notation.driver_options import check_image
from qmon.notation.image_spec import FROM_HEADER, Backing, ImageSpec

CLOSING = "closing"
"""The reason for closing the gate of a drive that is being removed."""

GUESSED = (
    "drive '%s': the format of '%s' was probed as raw, so writes that make it look like another format are"
    " refused: give format=raw (at the prompt: 'drive_del %s', then 'drive_add 0 file=%s,format=raw,id=%s')"
)

log = logging.getLogger("qmon.drive")


class Drive:
    """A drive is inactive until ``activate`` opens and locks its image. All methods may block.

    The constructor reads the image's header, without a lock. Raises OSError.
    """

    def __init__(self, settings: DriveOptions, new_name: Callable[[], str]) -> None:
        """``new_name`` returns an unused name for a node."""
        self.settings = settings
        self._names = NamesOfNodes(new_name)
        self._has_overlay = False
        """Whether an overlay was added while the image was open."""
        self.gate = Gate()
        self.faults = Faults()
        self.recent = RecentWrites()
        """The guests' last writes since the drive was added."""
        self.format = settings.format or probe_format(settings.file)
        if settings.qcow2 and self.format != "qcow2":
            raise CommandError(
                f"Block format '{self.format}' does not support the option '{settings.qcow2[0][0]}'"
            )
        self._is_guessed_raw = settings.format is None and self.format == "raw"
        self._temporary: TemporaryOverlay | None = None
        self._active = False
        self.is_waiting = False
        """Whether the image stays closed until its first use, because another drive has it open."""
        self._image: ImageNode | None = None
        """The open image, below all filters."""
        self._thresholds: dict[str, WriteThreshold] = {}
        """By the name of the node."""
        self._watcher: ThresholdFilter | None = None
        self._left: tuple[FileIdentity, ...] | None = None
        """The identities of the image's files when it was released to another process; it may come back."""
        self._kept_bitmaps = KeptBitmaps()
        self._marker: BitmapFilter | None = None
        self.stack = NodeStack(InactiveNode(0, settings.read_only))
        """The nodes that requests pass through."""
        device = Device(settings.id, settings.read_only, is_node=settings.is_node)
        self.guest = GuestDisk(device, self.gate, self.stack)
        self._layers: list[Layer] = []
        self.probe()
        self._check_options(self._layers[0])
        if settings.is_temporary:
            self._add_temporary_overlay(self._layers[0].size)
        elif self._is_guessed_raw and not settings.read_only:
            doubled_commas = settings.file.replace(",", ",,")
            log.warning(GUESSED, settings.id, settings.file, settings.id, doubled_commas, settings.id)

    def _check_options(self, image: Layer) -> None:
        """Check the image's options against the image. Raises UsageError or CommandError."""
        why = wrong_driver(image, self.settings.file_driver)
        if why is not None:
            raise CommandError(why)
        if image.header is not None:
            check_image(dict(self.settings.qcow2), image.header.cluster_size, image.header.version)

    @property
    def layers(self) -> list[Layer]:
        """The image and its backing images, as of the last time it was opened or read.

        Of an open image's bitmaps those are listed that are in its file.
        """
        known, images = self._layers, self._images
        found = [
            layer if layer.bitmaps == image.listed_bitmaps else replace(layer, bitmaps=image.listed_bitmaps)
            for layer, image in zip(known, images, strict=False)
        ]
        return found + known[len(images) :]

    def _add_temporary_overlay(self, size: int) -> None:
        settings = self.settings
        self._temporary = TemporaryOverlay(size)
        self._base = settings.file
        self._has_overlay = True
        self.settings = on_top(settings, self.format, self._temporary)
        self.format = "qcow2"
        self.probe()

    @property
    def is_temporary(self) -> bool:
        """Whether the drive has a temporary overlay."""
        return self._temporary is not None

    @property
    def id(self) -> str:
        return self.settings.id

    @property
    def image(self) -> str:
        """The image's file; below a temporary overlay, the one that stays."""
        return self.settings.file if self._temporary is None else self._base

    @property
    def node_names(self) -> list[tuple[str, str]]:
        """The names of each layer's two nodes: the format node, and the file node below it."""
        return self._names.of(self.settings, self.layers)

    @property
    def node_name(self) -> str:
        """The name of the topmost node."""
        return self.node_names[0][0]

    @property
    def shown_node_name(self) -> str:
        """The name of the topmost node, which may be a throttle filter."""
        return self.id if self.has_filter else self.node_name

    @property
    def has_filter(self) -> bool:
        """Whether a throttle filter's node is on top."""
        return self.settings.has_filter and not self._has_overlay

    def specs(self) -> Iterator[ImageSpec]:
        """Yield the images with the names of their nodes, topmost first."""
        for number, (name, file_name) in enumerate(self.node_names):
            spec = spec_of(self.layers[number:])
            is_bare, filter_name = name == file_name, self.id if self.has_filter and not number else None
            yield replace(spec, name=name, file_name=file_name, is_bare=is_bare, filter_name=filter_name)

    def spec(self, number: int = 0) -> ImageSpec:
        """Return the images with the names of all their nodes, so that they are opened as they are now.

        ``number`` is that of the topmost layer.
        """
        *above, lowest = list(self.specs())[number:]
        spec = lowest
        for each in reversed(above):
            spec = replace(each, backing=spec)
        return spec

    def rename(self, id: str) -> None:
        """Give the drive and its device another id."""
        self.settings = replace(self.settings, id=id)
        self.guest.device.id = id

    @property
    def settings_to_keep(self) -> DriveOptions:
        """The settings with the names that the machine made for the topmost image's nodes."""
        return replace(self.settings, file_node_name=self.node_names[0][1])

    def is_bare(self, number: int) -> bool:
        """Whether a layer has only a file's node, and no format's node above it."""
        name, file_name = self.node_names[number]
        return name == file_name

    def has_node(self, name: str) -> bool:
        """Whether a node of the drive has this name."""
        return name == self.shown_node_name or any(name in pair for pair in self.node_names)

    def node_below(self, name: str) -> Node:
        """Return the node with a name, to read the bytes that it holds; the drive's other requests go on.

        A node that holds the disk's own bytes is the whole disk. Raises OSError if the node is gone.
        """
        for number, (format_name, file_name) in enumerate(self.node_names):
            if name not in (format_name, file_name):
                continue
            if self._is_whole(number, is_file=name != format_name):
                return self.node
            layer, images = self.layers[number], self._images
            if number >= len(images):
                return InactiveNode(layer.size, read_only=True)
            image = images[number]
            return image if name == format_name else ReadOnlyFile(image.files[0])
        raise OSError(errno.ENODEV, f"the node '{name}' was removed")

    def _is_whole(self, number: int, *, is_file: bool) -> bool:
        """Whether a node of a layer holds the disk's own bytes."""
        return number == 0 and (not is_file or self.format == "raw")

    def is_read_only(self, name: str | None) -> bool:
        """Whether the node with a name can't be written; None is the topmost node."""
        if name is None or name == self.node_names[0][0]:
            return self.read_only
        return self.read_only or self.format != "raw" or name != self.node_names[0][1]

    @property
    def node(self) -> Node:
        """The top of the stack; requests to it are not throttled."""
        return self.stack.top

    @property
    def size(self) -> int:
        return self.node.size

    @property
    def backing_size(self) -> int | None:
        """The virtual size of the backing image in bytes, None without one."""
        if self._active:
            return None if self.node.backing is None else self.node.backing.size
        return self.layers[1].size if len(self.layers) > 1 else None

    @property
    def read_only(self) -> bool:
        return self.settings.read_only

    @property
    def is_active(self) -> bool:
        """Whether the image is open and locked here."""
        return self._active

    @property
    def is_flushed_on_leaving(self) -> bool:
        """Whether ``deactivate`` always flushes, because tables of the image may be in memory only."""
        return self._image is not None and not self.read_only and self._image.has_cached_tables

    def probe(self) -> None:
        """Read the image's size again, unless the drive is active. Raises OSError."""
        if not self._active:
            self._layers = self._look()
            self.stack.put(InactiveNode(self.layers[0].size, self.read_only))

    def activate(self) -> None:
        """Open the image and lock it like a guest's disk, unless the drive is active. Raises OSError."""
        if not self._active:
            changed = self._kept_bitmaps.are_outdated()
            image = open_image(
                self.settings.file,
                self.format,
                backing=self.settings.backing,
                read_only=self.read_only,
                is_shared=self.settings.is_shared,
            )
            if self._left not in (None, identify(image)):
                image.close()
                raise OSError(errno.ESTALE, "it was removed or replaced after the migration had released it")
            self._kept_bitmaps.give_back(list(images_of(image)), changed=changed)
            self._left = None
            self._show(image)
            self._active = True
            self._layers = self._look()

    def check_name(self) -> None:
        """Raises OSError if the name of the open image or a backing image leads to another file now."""
        for image in self._images:
            for file in image.files:
                file.check_name()

    def open_to_compare(self) -> ImageNode:
        """Open the image again, read-only and without a lock. Raises OSError.

        If the file system can, it is read from storage, not from this host's cache.
        """
        settings = self.settings
        return open_image(
            settings.file, self.format, backing=settings.backing, read_only=True, lock=False, direct=True
        )

    def identify(self) -> tuple[FileIdentity, ...]:
        """Return the identities of the open image's files. Raises OSError."""
        return () if self._image is None else identify(self._image)

    @property
    def _opened(self) -> ImageNode:
        """The open image. Raises OSError if none is open."""
        if self._image is None:
            raise not_open()
        return self._image

    @property
    def file(self) -> FileNode:
        """The file of the open image. Raises OSError if none is open."""
        return self._opened.files[0]

    @property
    def _images(self) -> list[ImageNode]:
        """The open image and its backing images, topmost first."""
        return [] if self._image is None else list(images_of(self._image))

    def _show(self, image: ImageNode) -> None:
        self._image = image
        node: Node = RecentFilter(image, self.recent)
        if self.is_temporary:
            node = UnflushedFilter(node)
        if self._is_guessed_raw and self.format == "raw":
            node = GuessedRawFilter(node)
        if self.settings.detect_zeroes != "off" and not self.read_only:
            node = DetectZeroesFilter(node, unmap=self.settings.detect_zeroes == "unmap")
        if self.faults:
            node = FaultFilter(node, self.faults)
        self.stack.put(node)
        self._watch_writes()
        self.track_writes()

    def set_threshold(self, name: str, threshold: WriteThreshold) -> None:
        """Watch writes to a node; this replaces its last threshold. No request may be inside the gate."""
        self._thresholds[name] = threshold
        self._watch_writes()

    def threshold(self, name: str) -> int:
        """The threshold of a node in bytes, 0 without one; as in QAPI a signed number of 64 bits."""
        threshold = self._thresholds.get(name)
        offset = 0 if threshold is None else threshold.offset
        return offset - (1 << 64) if offset >= 1 << 63 else offset

    def _watch_writes(self) -> None:
        names = self.node_names if self._thresholds else []
        for image, (name, file_name) in zip(self._images, names, strict=False):
            image.files[0].threshold = self._thresholds.get(file_name)
            threshold = self._thresholds.get(name)
            if image is self._image and name != file_name and threshold is not None:
                if self._watcher is not None:
                    self.stack.pop(self._watcher)
                self._watcher = self.stack.push(functools.partial(ThresholdFilter, threshold=threshold))

    def bitmaps(self, number: int = 0) -> Bitmaps:
        """Return the dirty bitmaps of a layer, also while its image is closed.

        After the first is added or the last is removed, call ``track_writes``.
        """
        images = self._images
        return images[number].bitmaps if number < len(images) else self._kept_bitmaps.of(number)

    def check_new_bitmap(self, number: int, name: str, granularity: int) -> None:
        """Raises OSError that says why a layer can't store one more bitmap; ENOTSUP if it can store none."""
        self._images[number].check_new_bitmap(name, granularity)

    def remove_bitmap(self, number: int, bitmap: DirtyBitmap) -> None:
        """Remove a bitmap of a layer, also from its file. After an OSError it is still in the file."""
        self.bitmaps(number).remove(bitmap)
        self.track_writes()
        self._images[number].remove_bitmap(bitmap)

    def track_writes(self) -> None:
        """Mark writes to the open image as long as it has bitmaps. No request may be inside the gate."""
        if self._image is None:
            return
        bitmaps = self._image.bitmaps
        if bitmaps and not self.stack.has(BitmapFilter):
            self._marker = self.stack.push(lambda node: BitmapFilter(node, bitmaps))
        elif not bitmaps and self._marker is not None:
            self.stack.pop(self._marker)

    def layer_size(self, number: int) -> int:
        """Return the virtual size of a layer of the open image in bytes."""
        return self.size if number == 0 else self._images[number].size

    def layer_of(self, node: str | None) -> int | None:
        """Return the number of the layer whose format's node has this name; None is the topmost node."""
        names = [name for name, _ in self.node_names]
        return 0 if node is None else names.index(node) if node in names else None

    def open_to_fill(self) -> None:
        """Open and lock the image of an active read-only drive for writing, until ``end_filling``.

        The drive must not be in use. Raises OSError; then the image stays open read-only.
        """
        self._reopen(read_only=False)

    def end_filling(self) -> None:
        """Flush, and open the image of a read-only drive read-only again, if it is open for writing.

        The drive must not be in use. Raises OSError.
        """
        if self.read_only and self._image is not None and not self._image.read_only:
            self._reopen(read_only=True)

    def _reopen(self, *, read_only: bool) -> None:
        files = self.identify()
        settings = self.settings
        self._show(self._reopened(settings, read_only=read_only))
        if self.identify() != files:
            raise OSError(errno.ESTALE, "it was removed or replaced while it was open")

    def _reopened(self, settings: DriveOptions, *, read_only: bool) -> ImageNode:
        return reopened(
            self._opened,
            settings.file,
            self.format,
            backing=settings.backing,
            read_only=read_only,
            is_shared=settings.is_shared,
        )

    def reopen(self, settings: DriveOptions) -> None:
        """Open the image again with other options: read-only or not, on another backing image.

        The drive must not be in use. Raises OSError; then nothing has changed.
        """
        image = self._reopened(settings, read_only=settings.read_only)
        if settings.backing != self.settings.backing:
            self._names.forget_below()
        self.settings = settings
        self.guest.device.read_only = settings.read_only
        self._show(image)
        self.look_again()

    def leave_to_backing(self, offset: int, length: int) -> None:
        """Free the overlay's clusters in a range, given in bytes; then the backing image is read there.

        The drive must not be in use. Raises OSError.
        """
        self._opened.leave_to_backing(offset, length)
        self._opened.bitmaps.mark(offset, length)

    @property
    def snapshots(self) -> list[Snapshot]:
        """Return the internal snapshots of the open image, in the order of its snapshot table."""
        return [] if self._image is None else list(self._image.snapshots)

    @property
    def internal_snapshots(self) -> InternalSnapshots:
        """Return the object that takes, deletes and applies snapshots. Call ``look_again`` after a change.

        The drive must not be in use. Raises OSError.
        """
        return self._opened.internal

    def discards(self, number: int) -> Discards:
        """Return the discard statistics of a layer's file since it was opened."""
        images = self._images
        return images[number].files[0].discards if number < len(images) else Discards()

    def look_again(self) -> None:
        """Read ``layers`` from the files again. Raises OSError."""
        self._layers = self._look()

    def put_overlay(
        self, file: str, *, create: bool, name: str | None, node: DriveOptions | None = None
    ) -> Callable[[], None]:
        """Continue in an overlay: a new one with ``create``, else an existing empty one.

        ``name`` is the name of the overlay's node. ``node`` is what was said about an existing overlay that
        need not name the drive's image in its header. The drive must not be in use. Raises OSError; then
        nothing has changed.

        Return what undoes it, as long as no request has been served. That may raise OSError, too; then the
        overlay stays.
        """
        before = self.settings, self.format, self.layers, self._has_overlay
        given: Backing = FROM_HEADER if node is None else self.spec()
        overlay, found = put_overlay(self._opened, self.layers, file, create=create, backing=given)
        assert self.node_names  # they are named before the overlay
        self._names.add_overlay(name, None if node is None else node.file_node_name)
        if node is None and not create:
            given = spec_of([found[0], *self.layers]).backing
        below = keep_names(found[1:], self.layers) if given is FROM_HEADER else self.layers
        if node is not None:
            below = [replace(below[0], given=found[1].given), *below[1:]]
        self.settings = replace(
            self.settings,
            file=file,
            format=overlay.format,
            backing=given,
            is_bare=False,
            qcow2=() if node is None else node.qcow2,
            detect_zeroes="off" if node is None else node.detect_zeroes,
            file_driver=None,
        )
        self.format = overlay.format
        self._layers = [found[0], *below]
        self._has_overlay = True
        self._show(overlay)

        def take_off() -> None:
            settings, format, *_ = before
            below = list(images_of(overlay))[1]
            image = reopened(below, settings.file, format, backing=settings.backing, read_only=self.read_only)
            overlay.backing = None
            overlay.close()
            self._names.remove_overlay()
            self.settings, self.format, self._layers, self._has_overlay = before
            self._show(image)
            self.look_again()
            if create:
                os.unlink(file)

        return take_off

    def change_backing_name(self, name: str) -> None:
        """Write another name of the backing image into the image; the open backing image stays.

        The drive must not be in use. Raises OSError.
        """
        image = self._opened
        if not isinstance(image, Qcow2Node):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        backing = self.spec().backing
        image.change_backing_name(name)
        self.settings = replace(self.settings, backing=backing)
        self.look_again()

    def commit(self) -> None:
        """Write the data of the topmost image to its backing image. The drive must not be in use.

        Raises OSError; then no data is lost.
        """
        image = self._opened
        if image.backing is None:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        try:
            below = self.layers[1]
            is_probed = below.given is not None and below.given.format is None
            is_guessed = is_probed or (self.is_temporary and self._is_guessed_raw)
            commit(image, below, is_guessed=is_guessed and below.format == "raw")
        finally:
            self.look_again()

    def deactivate(self, *, flush: bool = True) -> None:
        """Flush, close the image and release its locks, unless the drive is inactive.

        With ``flush`` False the file is not flushed, except if ``is_flushed_on_leaving``. Raises OSError if
        the flush fails; then the drive stays active.
        """
        if self._active:
            if self.is_flushed_on_leaving or (flush and not self.read_only):
                self.node.flush()
                if self.is_temporary:
                    self._opened.flush()  # it is opened again if the migration fails
            self._left = self.identify()
            self._close()
            self._kept_bitmaps.note_release()

    def abandon(self) -> None:
        """Close the image without a flush. Writes since the last flush may be lost."""
        if self._active:
            self._close()

    def close(self) -> None:
        """Refuse new requests and close the image. Raises OSError if the flush fails; it is closed even then.

        Requests that are under way end first: after the close their descriptor may belong to another file.
        """
        self.gate.shut()
        self.gate.close(CLOSING)
        if self._active:
            try:
                if not self.read_only:
                    self.node.flush()
            finally:
                self._close()
        if self._temporary is not None:
            self._temporary.close()

    @property
    def lacks_fault_filter(self) -> bool:
        """Whether the fault filter is missing: the image was opened while ``faults`` was empty."""
        return self._active and not self.stack.has(FaultFilter)

    def install_fault_filter(self) -> None:
        """Apply ``faults`` to requests while the image is open. No request may be inside the gate."""
        if self.lacks_fault_filter:
            self.stack.push(lambda node: FaultFilter(node, self.faults))

    def _look(self) -> list[Layer]:
        settings = self.settings
        is_base = settings.is_temporary and self._temporary is None  # it will not be written
        layers = look_at_image(
            settings.file, self.format, backing=settings.backing, read_only=self.read_only or is_base
        )
        if self._temporary is not None:
            layers[0] = replace(layers[0], name=self._temporary.name)
        return keep_names(layers, self.layers)

    def _close(self) -> None:
        self._layers = self.layers
        node = self.node
        self.stack.put(InactiveNode(node.size, self.read_only))
        self._active = False
        self._kept_bitmaps.keep(self._images)
        self._image = None
        node.close()
