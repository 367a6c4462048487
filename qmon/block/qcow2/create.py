"""Creates qcow2 images, with the layout of ``qemu-img create`` (QEMU, docs/interop/qcow2)."""

from __future__ import annotations

import errno
import os
import struct
from array import array
from collections.abc import Callable
from typing import Protocol

from qmon.block.file import FileNode
from qmon.block.locks import LockSet
from qmon.block.node import Buffer
from qmon.block.qcow2.entries import CODEC_64, Codec, Entries
from qmon.block.qcow2.header import SECTOR
from qmon.block.qcow2.layout import Layout, NewImage, header_bytes, layout_of
from qmon.block.qcow2.mapping import COPIED

_MODE = 0o644
_AT_ONCE = 1 << 17
"""So many counts are written at once; a multiple of 8."""


class Place(Protocol):
    """What an image is written to: a file, or a node."""

    @property
    def size(self) -> int: ...

    def write(self, offset: int, data: Buffer) -> None: ...

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None: ...

    def resize(self, size: int) -> None: ...

    def flush(self) -> None: ...


def create_overlay(path: str, size: int, backing_file: str, backing_format: str, locks: LockSet) -> None:
    """Create an empty overlay of ``size`` bytes on ``backing_file``, and bring it to stable storage.

    Nothing is overwritten: the file must not exist, or be empty and unused. ``locks`` are held while it is
    written. If writing fails, a file that was created here is removed. Raises OSError.
    """
    image = NewImage(size, backing_file, backing_format)
    check_image(image)
    is_new = _make_empty_file(path)
    try:
        file = FileNode(path, read_only=False, locks=locks)
        try:
            if file.size:
                raise FileExistsError(errno.EEXIST, "it already exists and is not empty")
            write_image(file, image)
        finally:
            file.close()
        _sync_folder(path)
    except BaseException:
        if is_new:
            os.unlink(path)
        raise


def write_temporary(path: str, size: int) -> None:
    """Make an empty file an image of ``size`` bytes that names no backing image. Raises OSError."""
    image = NewImage(size)
    check_image(image)
    file = FileNode(path, read_only=False, locks=None)
    try:
        write_image(file, image)
    finally:
        file.close()


def check_image(image: NewImage) -> None:
    """Raises OSError, in words of our own, if an image with default clusters can't be made."""
    try:
        layout = layout_of(image)
    except OSError as error:
        raise OSError(errno.EFBIG, "the size is too large for an image with 64 KiB clusters") from error
    try:
        header_bytes(image, layout)
    except OSError as error:
        raise OSError(errno.EINVAL, f"Backing file name too long: '{image.backing_file}'") from error


def write_image(
    place: Place,
    image: NewImage,
    *,
    fill: Callable[[int, int], None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write an empty image to a file or node that may have other content, which is lost.

    The first sector is written last. A sector is written atomically, so what is not complete is no image.
    ``fill(offset, length)`` provides the storage of a preallocated disk's data, which is zeros; None makes
    holes. ``check`` is called often; what it raises ends the writing. Raises OSError.
    """
    layout = layout_of(image)
    header = header_bytes(image, layout)
    bits = image.cluster_bits
    if place.size:
        place.write(0, bytes(min(SECTOR, place.size)))
        place.flush()
    l1_end = (layout.first_l1 << bits) + image.l1_entries * 8
    end = layout.clusters << bits if image.is_preallocated else max(l1_end, layout.first_l1 << bits)
    if place.size < end:
        place.resize(end)
    place.zero(SECTOR, min(place.size, max(end, layout.first_l2 << bits)) - SECTOR)
    _write_counts(place, image, layout, check)
    _write_tables(place, image, layout, check)
    if fill is not None and layout.data:
        fill(layout.first_data << bits, layout.data << bits)
    check()
    if len(header) > SECTOR:
        place.write(SECTOR, header[SECTOR:])
    place.flush()
    place.write(0, header[:SECTOR].ljust(SECTOR, b"\0"))
    place.flush()


def _write_counts(place: Place, image: NewImage, layout: Layout, check: Callable[[], None]) -> None:
    bits = image.cluster_bits
    blocks = range(layout.first_block, layout.first_l1)
    place.write(1 << bits, struct.pack(f">{len(blocks)}Q", *(number << bits for number in blocks)))
    codec = Codec(image.refcount_order)
    for done in range(0, layout.clusters, _AT_ONCE):
        check()
        ones = min(_AT_ONCE, layout.clusters - done)
        counts = codec.repeat(1, ones)
        counts.extend(codec.repeat(0, -ones % 8))
        place.write((layout.first_block << bits) + (done << image.refcount_order) // 8, codec.encode(counts))


def _write_tables(place: Place, image: NewImage, layout: Layout, check: Callable[[], None]) -> None:
    """Write the L1 and L2 tables of a preallocated image."""
    bits = image.cluster_bits
    l2_tables = range(layout.first_l2, layout.first_data)
    if not l2_tables:
        return
    place.write(layout.first_l1 << bits, CODEC_64.encode(_entries(l2_tables, bits)))
    per_table = image.cluster_size // 8
    for number, table in enumerate(l2_tables):
        check()
        first = layout.first_data + number * per_table
        data = range(first, min(first + per_table, layout.clusters))
        place.write(table << bits, CODEC_64.encode(_entries(data, bits)))


def _entries(clusters: range, bits: int) -> Entries:
    return array("Q", ((number << bits) | COPIED for number in clusters))


def _make_empty_file(path: str) -> bool:
    """Create an empty file; return False if it already exists."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
    except FileExistsError:
        return False
    return True


def _sync_folder(path: str) -> None:
    """Sync a folder. Without it a crash could lose the entry of a new file."""
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
