"""A drive: what the operator names, the top of a node chain, with the gate that holds its requests."""

from __future__ import annotations

import errno
import itertools
import logging
import os
from collections.abc import Callable
from dataclasses import replace

from qmon.block.accounts import Accounts
from qmon.block.chain import commit, put_overlay, reopened
from qmon.block.faults import FaultFilter, Faults
from qmon.block.file import Discards
from qmon.block.gate import Gate
from qmon.block.guessed import GuessedRawFilter
from qmon.block.image import (
    FileIdentity,
    ImageNode,
    Layer,
    identify,
    images_of,
    keep_names,
    look_at_image,
    open_image,
)
from qmon.block.inactive import InactiveNode, not_open
from qmon.block.node import Node
from qmon.block.probe import probe_format
from qmon.block.qcow2.internal_snapshots import InternalSnapshots
from qmon.block.qcow2.snapshots import Snapshot
from qmon.block.recent import RecentFilter, RecentWrites
from qmon.block.stack import NodeStack
from qmon.block.throttle import ThrottleFilter
from qmon.machine.device import Device
from qmon.notation.drive_options import DriveOptions

CLOSING = "closing"
"""The reason for which the gate of a drive that goes away is closed."""

GUESSED = (
    "drive '%s': the format of '%s' is guessed to be raw, and writes that would have it look like another are"
    " refused: add format=raw"
)

log = logging.getLogger("qmon.drive")

_numbers = itertools.count()


class Drive:
    """Inactive until ``activate``: then its image is open and locked. All calls may block.

    Making one looks at the image, without a lock. Raises OSError.
    """

    def __init__(self, settings: DriveOptions, new_name: Callable[[], str]) -> None:
        """``new_name`` makes a name for a node, each time another."""
        self.number = next(_numbers)
        """Drives that were made later have a higher one."""
        self.settings = settings
        self._new_name = new_name
        self._node_names: list[tuple[str, str]] = []
        self._overlay_numbers: list[int] = []
        """Of the layers that came on top while the image was open, topmost first."""
        self.device = Device(settings.id, settings.read_only)
        self.gate = Gate()
        self.guest = GuestDisk(self)
        self.faults = Faults()
        self.recent = RecentWrites()
        """What guests wrote last, since the drive was made."""
        self.format = settings.format or probe_format(settings.file)
        if self._is_guessed_raw and not settings.read_only:
            log.warning(GUESSED, settings.id, settings.file)
        self._active = False
        self.is_waiting = False
        """Whether the image stays closed until it is used, since another drive of this machine has it."""
        self._image: ImageNode | None = None
        """The open image, below all filters."""
        self._left: tuple[FileIdentity, ...] | None = None
        """Which files the image was made of when it was given to another process, which may give it back."""
        self.stack = NodeStack(InactiveNode(0, settings.read_only))
        """What requests pass through."""
        self._layers: list[Layer] = []
        self.probe()

    @property
    def layers(self) -> list[Layer]:
        """The image and what backs it, as they were when it was opened or looked at last.

        Its bitmaps are left out once a change has made them untrue.
        """
        if self._image is not None and not self._image.keeps_bitmaps:
            top, *below = self._layers
            return [replace(top, bitmaps=()), *below]
        return self._layers

    @property
    def _is_guessed_raw(self) -> bool:
        return self.settings.format is None and self.format == "raw"

    @property
    def id(self) -> str:
        return self.settings.id

    @property
    def image(self) -> str:
        return self.settings.file

    @property
    def node_names(self) -> list[tuple[str, str]]:
        """For each layer the names of its two nodes: its format's, and that of the file below."""
        while len(self._node_names) < len(self.layers):
            file = self._new_name()  # it is opened first
            given = None if self._node_names else self.settings.node_name
            self._node_names.append((given or self._new_name(), file))
        return self._node_names[: len(self.layers)]

    @property
    def layer_numbers(self) -> list[int]:
        """For each layer a number; those that were opened later have a higher one."""
        below = len(self.layers) - len(self._overlay_numbers)
        return [*self._overlay_numbers, *[self.number] * below]

    @property
    def node_name(self) -> str:
        """The name of the topmost node."""
        return self.node_names[0][0]

    @property
    def node(self) -> Node:
        """The top of the stack, for requests that are not throttled."""
        return self.stack.top

    @property
    def size(self) -> int:
        return self.node.size

    @property
    def backing_size(self) -> int | None:
        """The virtual size of what backs the image, None where nothing does."""
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
        """Whether ``deactivate`` flushes even when it is not asked to: there may be tables in memory only."""
        return self._image is not None and not self.read_only and self._image.has_cached_tables

    def probe(self) -> None:
        """Look at the image's size again, unless it is active. Raises OSError."""
        if not self._active:
            self._layers = self._look()
            self.stack.put(InactiveNode(self.layers[0].size, self.read_only))

    def activate(self) -> None:
        """Open the image and lock it as a running guest's disk; nothing when it is active. Raises OSError."""
        if not self._active:
            image = open_image(self.settings.file, self.format, read_only=self.read_only)
            if self._left not in (None, identify(image)):
                image.close()
                raise OSError(errno.ESTALE, "it was removed or replaced while it was given away")
            self._left = None
            self._show(image)
            self._active = True
            self._layers = self._look()

    def check_name(self) -> None:
        """Raises OSError where a name does not lead to the open image any more, or to what backs it."""
        for image in self._images:
            for file in image.files:
                file.check_name()

    def open_to_compare(self) -> ImageNode:
        """Open the image anew, as it is in storage now, for reading alone and without a lock. Raises OSError.

        What this host has cached of it is not looked at, where the file system can do without.
        """
        return open_image(self.settings.file, self.format, read_only=True, lock=False, direct=True)

    def identify(self) -> tuple[FileIdentity, ...]:
        """Which files the open image is made of. Raises OSError."""
        return () if self._image is None else identify(self._image)

    @property
    def _opened(self) -> ImageNode:
        """Raises OSError while nothing is open."""
        if self._image is None:
            raise not_open()
        return self._image

    @property
    def _images(self) -> list[ImageNode]:
        """The open image and those that back it, topmost first."""
        return [] if self._image is None else list(images_of(self._image))

    def _show(self, image: ImageNode) -> None:
        self._image = image
        node: Node = RecentFilter(image, self.recent)
        if self._is_guessed_raw:
            node = GuessedRawFilter(node)
        if self.faults:
            node = FaultFilter(node, self.faults)
        self.stack.put(node)

    def open_to_fill(self) -> None:
        """Have the image of an active read-only drive open for writing, and locked so, until ``end_filling``.

        Nobody else uses the drive. Raises OSError, and stays open for reading alone.
        """
        self._reopen(read_only=False)

    def end_filling(self) -> None:
        """Flush, and have the image of a read-only drive open for reading alone again, if it is not.

        Nobody else uses the drive. Raises OSError.
        """
        if self.read_only and self._image is not None and not self._image.read_only:
            self._reopen(read_only=True)

    def _reopen(self, *, read_only: bool) -> None:
        files = self.identify()
        self._show(reopened(self._opened, self.settings.file, self.format, read_only=read_only))
        if self.identify() != files:
            raise OSError(errno.ESTALE, "it was removed or replaced while it was open")

    def leave_to_backing(self, offset: int, length: int) -> None:
        """Give up what the topmost image holds of a range, in bytes; what backs it shows through then.

        Nobody else uses the drive. Raises OSError.
        """
        self._opened.leave_to_backing(offset, length)

    @property
    def snapshots(self) -> list[Snapshot]:
        """Those inside the topmost image, which is open, in their table's order."""
        return [] if self._image is None else list(self._image.snapshots)

    @property
    def internal_snapshots(self) -> InternalSnapshots:
        """What takes, deletes and applies them; ``look_again`` follows. Nobody else uses the drive.

        Raises OSError.
        """
        return self._opened.internal

    def discards(self, number: int) -> Discards:
        """What the file of a layer was told, since it was opened."""
        images = self._images
        return images[number].files[0].discards if number < len(images) else Discards()

    def look_again(self) -> None:
        """Have ``layers`` say what is in the files now. Raises OSError."""
        self._layers = self._look()

    def put_overlay(self, file: str, *, create: bool, name: str | None) -> None:
        """Go on in an overlay, which is made or is there and empty; nobody else uses the drive.

        ``name`` is its node's. Raises OSError, and everything is as before then.
        """
        overlay, layers = put_overlay(self._opened, self.layers[0], file, create=create)
        file_name = self._new_name()
        names = self.node_names
        self.settings = replace(self.settings, file=file, format=overlay.format)
        self.format = overlay.format
        self._layers = [layers[0], *keep_names(layers[1:], self.layers)]
        self._node_names = [(name or self._new_name(), file_name), *names]
        self._overlay_numbers.insert(0, next(_numbers))
        self._show(overlay)

    def commit(self) -> None:
        """Write what the topmost image holds to the one behind it; nobody else uses the drive.

        Raises OSError: nothing is lost then.
        """
        image = self._opened
        if image.backing is None:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        try:
            commit(image, self.layers[1])
        finally:
            self.look_again()

    def deactivate(self, *, flush: bool = True) -> None:
        """Flush, close the image and give up its locks; nothing when it is not active.

        Without ``flush`` what is in the file already is not waited for, but where ``is_flushed_on_leaving``.
        Raises OSError when that failed, and stays active.
        """
        if self._active:
            if self.is_flushed_on_leaving or (flush and not self.read_only):
                self.node.flush()
            self._left = self.identify()
            self._close()

    def abandon(self) -> None:
        """Close the image, whatever becomes of what was written since the last flush: nobody wants it."""
        if self._active:
            self._close()

    def close(self) -> None:
        """Turn requests away and close the image. Raises OSError for a failed flush, closed all the same.

        Requests that are under way end first: the image's descriptor may be another file's once it is closed.
        """
        self.gate.shut()
        self.gate.close(CLOSING)
        if self._active:
            try:
                if not self.read_only:
                    self.node.flush()
            finally:
                self._close()

    @property
    def lacks_fault_filter(self) -> bool:
        """Whether requests can't meet ``faults`` yet: the image was opened while there were none."""
        return self._active and not self.stack.has(FaultFilter)

    def install_fault_filter(self) -> None:
        """Have requests meet ``faults`` for as long as the image is open; nobody is inside the gate."""
        if self.lacks_fault_filter:
            self.stack.push(lambda node: FaultFilter(node, self.faults))

    def _look(self) -> list[Layer]:
        layers = look_at_image(self.settings.file, self.format, read_only=self.read_only)
        return keep_names(layers, self.layers)

    def _close(self) -> None:
        self._layers = self.layers
        node = self.node
        self.stack.put(InactiveNode(node.size, self.read_only))
        self._active = False
        self._image = None
        node.close()


class GuestDisk:
    """A drive as its guests see it, by NBD or from a monitor: throttled, and with their requests counted."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive

    @property
    def node(self) -> Node:
        """A migration's own requests go to the drive's node and are not throttled, as with QEMU."""
        drive = self._drive
        throttle = drive.device.throttle
        top = drive.stack.top
        return ThrottleFilter(top, throttle, drive.gate) if throttle.limits else top

    @property
    def gate(self) -> Gate:
        return self._drive.gate

    @property
    def accounts(self) -> Accounts:
        return self._drive.device.accounts
