"""Changes an open backing chain: puts an overlay on top, or commits the overlay to its backing image.

No other request may use the nodes meanwhile. Locks pass from one open file to the next without a gap: the new
file opens with locks that both can hold, the old one releases its others, and the new one takes them.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from dataclasses import replace

from qmon.block.backing_names import backing_image
from qmon.block.bitmaps import BitmapFilter
from qmon.block.guessed import GuessedRawFilter
from qmon.block.image import (
    BACKING_LOCKS,
    ImageNode,
    images_of,
    look_at_image,
    open_image,
    open_one,
)
from qmon.block.layers import Layer, shown_name
from qmon.block.locks import LockSet, Permission
from qmon.block.node import Kind, Node
from qmon.block.qcow2.create import create_overlay
from qmon.block.qcow2.node import LOCKS, Qcow2Node
from qmon.errors import reason
from qmon.notation.caching import WRITEBACK, Caching
from qmon.notation.file_names import is_same_file
from qmon.notation.image_spec import FROM_HEADER, Backing
from qmon.notation.nbd_names import is_export

log = logging.getLogger("qmon.chain")

_READ = frozenset({Permission.READ})
_CHANGES = frozenset({Permission.WRITE, Permission.RESIZE})
_JUST_READ = LockSet(_READ, frozenset())
_WRITTEN = LockSet(_READ | _CHANGES, _CHANGES)
"""Locks of a backing image that is being written: bytes 100, 101, 103, 201 and 203."""

_PIECE = 1 << 20


def put_overlay(
    image: ImageNode,
    layers: Sequence[Layer],
    file: str,
    *,
    create: bool,
    backing: Backing = FROM_HEADER,
    caching: Caching = WRITEBACK,
) -> tuple[Qcow2Node, list[Layer]]:
    """Put an overlay on an open image; return the open overlay and the layers of the chain that it names.

    The overlay ``file`` is created, or, without ``create``, must exist and be empty. ``layers`` describe the
    image and its backing images. ``backing`` is the image, if the overlay need not name it. Raises OSError;
    then nothing has changed.
    """
    image.flush()
    below = layers[0]
    if create:
        create_overlay(file, image.size, _backing_name(file, layers), below.format, LOCKS)
    try:
        found = look_at_image(file, "qcow2", backing=backing, read_only=image.read_only)
        locks = BACKING_LOCKS if image.read_only else LOCKS
        overlay = Qcow2Node(file, read_only=image.read_only, locks=locks, caching=caching)
        try:
            _check_overlay(overlay, found, below, image.size)
            _put_on_top(overlay, image, below)
        except BaseException:
            overlay.close()
            raise
    except BaseException:
        if create:
            os.unlink(file)
        raise
    return overlay, found


def _check_overlay(overlay: Qcow2Node, layers: Sequence[Layer], image: Layer, size: int) -> None:
    """Check that a drive on ``image``, of ``size`` bytes, reads the same with ``overlay`` on top.

    ``layers`` are those of the overlay's chain. Raises OSError that says what differs.
    """
    if len(layers) < 2 or not is_same_file(layers[1].file, image.file):
        raise OSError(errno.EINVAL, f"its backing file is not '{image.file}'")
    if layers[1].format != image.format:
        raise OSError(errno.EINVAL, f"its backing format is {layers[1].format}, not {image.format}")
    if overlay.size != size:
        raise OSError(errno.EINVAL, f"its size is {overlay.size} bytes, not {size}")
    if any(extent.kind is not Kind.BACKING for extent in overlay.extents(0, size)):
        raise OSError(errno.EINVAL, "it is not empty")


def _backing_name(overlay: str, layers: Sequence[Layer]) -> str:
    """Return the name of an image for an overlay on it.

    It is the file's name if that works from the overlay's folder, else an absolute one. If that would not
    lead to the same backing images, it is a ``json:`` name.
    """
    name, file = shown_name(layers), layers[0].file
    if name != file:
        return shown_name([replace(layer, name=_from_anywhere(layer)) for layer in layers])
    try:
        if is_same_file(backing_image(overlay, file, None).file, file):
            return file
    except OSError:
        pass  # the name leads nowhere from the overlay's folder, or is not a plain file name
    return os.path.abspath(file)


def _from_anywhere(layer: Layer) -> str:
    """Return a name of an image's file that works from every folder."""
    return layer.name or layer.file if is_export(layer.file) else os.path.abspath(layer.file)


def _put_on_top(overlay: Qcow2Node, old: ImageNode, layer: Layer) -> None:
    """Make the image ``old`` the backing image of ``overlay``, which is open without one; close ``old``.

    ``layer`` is the image's file and format; it is opened again read-only. Raises OSError; then nothing has
    changed.
    """
    old.flush()
    held = old.locks
    old.change_locks(LockSet(held.used, held.not_shared | _CHANGES))
    try:
        overlay.backing = _replaced(old, layer)
    except BaseException:
        old.change_locks(held)
        raise


def reopened(
    old: ImageNode,
    file: str,
    format: str,
    *,
    backing: Backing = FROM_HEADER,
    read_only: bool,
    is_shared: bool = False,
    caching: Caching = WRITEBACK,
) -> ImageNode:
    """Open an image again, read-only or not; return it and close ``old``. On OSError ``old`` stays open.

    Until the new one has its locks, the old one holds only a reader's.
    """
    if not old.read_only:
        old.flush()
        old.save_bitmaps()
    held = old.locks
    old.change_locks(_JUST_READ)
    try:
        new = open_image(
            file, format, backing=backing, read_only=read_only, is_shared=is_shared, caching=caching
        )
    except BaseException:
        old.change_locks(held)
        old.resume_bitmaps()
        raise
    below = list(images_of(old))
    old.close()
    for image, before in zip(images_of(new), below, strict=False):
        if image is new or image.files[0].path == before.files[0].path:
            image.bitmaps.take_over(before.bitmaps, image.size)
    return new


def commit(top: ImageNode, layer: Layer, *, is_guessed: bool = False) -> None:
    """Write what ``top`` holds itself to its backing image, then empty ``top``.

    ``layer`` is the backing image's file and format; with ``is_guessed`` nobody gave the format. The written
    data is on stable storage before the overlay is emptied: after a failure at any moment the disk reads as
    before. Raises OSError.
    """
    below = list(images_of(top))[1]
    if below.is_dirty:
        raise OSError(errno.EIO, f"'{layer.file}' was not closed properly: run qemu-img check -r all on it")
    if top.snapshots:
        raise OSError(errno.ENOTSUP, "its snapshots would change with the backing image: delete them first")
    top.flush()
    written = open_one(layer.file, layer.format, read_only=False, locks=BACKING_LOCKS)
    below.change_locks(_JUST_READ)
    try:
        written.change_locks(_WRITTEN)
    except BaseException:
        below.change_locks(BACKING_LOCKS)
        written.close()
        raise
    written.backing = below.backing
    written.resume_bitmaps()
    written.bitmaps.take_over(below.bitmaps, written.size)
    try:
        named = top.backing_name
        is_guessed = is_guessed or (layer.format == "raw" and named is not None and named[1] is None)
        target = BitmapFilter(written, written.bitmaps)
        _copy(top, GuessedRawFilter(target) if is_guessed else target)
        written.flush()
    finally:
        _read_again(top, below, written, layer)
    top.leave_to_backing(0, top.size)
    top.flush()


def _copy(top: ImageNode, below: Node) -> None:
    if below.size < top.size:
        below.resize(top.size)
    buffer = memoryview(bytearray(_PIECE))
    for extent in top.extents(0, top.size):
        if extent.kind is Kind.ZERO:
            below.zero(extent.offset, extent.length)
        elif extent.kind is Kind.DATA:
            for start in range(extent.offset, extent.end, _PIECE):
                piece = buffer[: min(_PIECE, extent.end - start)]
                top.read_into(start, piece)
                below.write(start, piece)


def _read_again(top: ImageNode, below: ImageNode, written: ImageNode, layer: Layer) -> None:
    """Open the written image again read-only, as the backing image of ``top``; close ``below``."""
    try:
        top.backing = _replaced(written, layer)
    except OSError as error:
        log.error(
            "image '%s' can't be reopened read-only and stays open for writing: %s", layer.file, reason(error)
        )
        written.change_locks(BACKING_LOCKS)
        top.backing = written
    below.backing = None
    below.close()


def _replaced(old: ImageNode, layer: Layer) -> ImageNode:
    """Open an image again read-only, with the same backing image; close ``old``. Raises OSError."""
    old.save_bitmaps()
    try:
        new = open_one(layer.file, layer.format, read_only=True, locks=_JUST_READ)
    except BaseException:
        old.resume_bitmaps()
        raise
    try:
        # until the new one denies others writing and resizing, the old one does
        old.change_locks(BACKING_LOCKS)
        new.change_locks(BACKING_LOCKS)
    except BaseException:
        new.close()
        old.resume_bitmaps()
        raise
    new.backing, old.backing = old.backing, None
    old.close()
    new.bitmaps.take_over(old.bitmaps, new.size)
    return new
