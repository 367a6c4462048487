"""Opens an image by its format's name, with its backing chain."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, cast

from qmon.block.backing_names import backing_image
from qmon.block.bitmaps import Bitmaps, DirtyBitmap
from qmon.block.image_file import ImageFile, open_image_file
from qmon.block.layers import Layer, wrong_driver
from qmon.block.locks import DISK, READ_ONLY_DISK, SHARED_READ, LockSet, Permission
from qmon.block.node import Node
from qmon.block.probe import probe_format
from qmon.block.qcow2.bitmaps import Bitmap as StoredBitmap
from qmon.block.qcow2.bitmaps import read_listed
from qmon.block.qcow2.core import read_header
from qmon.block.qcow2.internal_snapshots import InternalSnapshots
from qmon.block.qcow2.limits import LIMITS, Limits
from qmon.block.qcow2.node import LOCKS as QCOW2_LOCKS
from qmon.block.qcow2.node import Qcow2Node
from qmon.block.qcow2.snapshots import Snapshot, read_snapshots
from qmon.block.raw import SECTOR, RawNode
from qmon.errors import reason
from qmon.host.fdsets import real_name
from qmon.notation.caching import WRITEBACK, Caching
from qmon.notation.image_spec import FROM_HEADER, Backing, ImageSpec
from qmon.notation.nbd_names import is_export, read_name

FORMATS = ("raw", "qcow2")

MAX_CHAIN = 200
"""The most images in a chain. A read passes through all images above, a few calls deep for each."""

BACKING_LOCKS = LockSet(READ_ONLY_DISK.used, frozenset({Permission.WRITE, Permission.RESIZE}))
"""Locks of a running guest's read-only qcow2 disk, and of a backing image: bytes 100, 201 and 203."""

_RAW_BACKING = ("file", "host_device")
"""Other names that an overlay may use for the raw format."""

_OF_BACKING = "Could not open backing file: "


class ImageNode(Node, Protocol):
    """An open image of some format, the lowest node of a drive.

    The interface includes what only some formats can do: the others raise ENOTSUP, or have an empty value.
    """

    format: str

    has_cached_tables: bool
    """Whether a flush may have to write tables from memory."""

    bitmaps: Bitmaps
    """Its dirty bitmaps. Who writes to it marks what was written (``BitmapFilter``)."""

    backing: Node | None
    """The backing image, an ImageNode, or None; set it before the first request."""

    @property
    def backing_name(self) -> tuple[str, str | None] | None:
        """The backing file's name and its format (None if not given), as written in the image."""

    @property
    def is_dirty(self) -> bool:
        """Whether it was not closed properly and must be repaired before it is changed."""

    @property
    def files(self) -> Sequence[ImageFile]:
        """The image's own file, then its external data file if it has one."""

    @property
    def locks(self) -> LockSet:
        """The locks that it holds."""

    def change_locks(self, locks: LockSet) -> None:
        """Replace the held locks. Raises ImageLockedError."""

    @property
    def listed_bitmaps(self) -> tuple[StoredBitmap, ...]:
        """The bitmaps that are in the file, in the order of its directory."""

    def check_new_bitmap(self, name: str, granularity: int) -> None:
        """Raises OSError that says why one more bitmap can't be stored; ENOTSUP if none can."""

    def remove_bitmap(self, bitmap: DirtyBitmap) -> None:
        """Remove a bitmap from the file, if it is there. Raises OSError."""

    def save_bitmaps(self) -> None:
        """Store the persistent bitmaps before another program opens the image. Raises OSError."""

    def resume_bitmaps(self) -> None:
        """Mark the stored bitmaps as in use, before the image or one of them is changed. Raises OSError."""

    @property
    def snapshots(self) -> Sequence[Snapshot]:
        """The internal snapshots, in the table's order."""

    @property
    def internal(self) -> InternalSnapshots:
        """Takes, deletes and applies internal snapshots, while no request uses the image. Raises OSError."""

    def leave_to_backing(self, offset: int, length: int) -> None:
        """Free the whole clusters of a range, so that the backing image is visible there. Raises OSError."""


FileIdentity = tuple[str, str, int, int]
"""A file's identity on one running kernel: its image's format, its kind, and two numbers."""


def open_image(
    path: str,
    image_format: str,
    *,
    backing: Backing = FROM_HEADER,
    read_only: bool = False,
    lock: bool = True,
    is_shared: bool = False,
    caching: Caching = WRITEBACK,
    from_storage: bool = False,
    limits: Limits = LIMITS,
) -> ImageNode:
    """Open an image and its backing chain; with ``lock`` it is locked as a running guest's disk.

    ``backing`` is what backs it. With ``is_shared`` others may write the images meanwhile. ``caching`` is
    also that of backing images of which nothing else was said; ``from_storage`` is that of
    ``open_image_file``; ``limits`` are those of qcow2 tables. Raises OSError; ENOTSUP for an unsupported
    format.
    """
    chain = _Chain()
    file = os.fspath(path)
    chain.enter(file)
    locks = _locks_of(image_format, read_only=read_only, is_shared=is_shared) if lock else None
    top = node = open_one(
        file,
        image_format,
        read_only=read_only,
        locks=locks,
        caching=caching,
        from_storage=from_storage,
        is_backing=False,
        limits=limits,
    )
    try:
        while True:
            with _telling_of_backing():
                below = chain.below(file, backing, node.backing_name)
                if below is None:
                    break
                file, backing = below.file, below.backing
                if lock:
                    locks = SHARED_READ if is_shared else BACKING_LOCKS
                caching = below.caching or caching
                above, node = node, _open_below(below, locks, caching, from_storage=from_storage)
                above.backing = node
    except BaseException:
        top.close()
        raise
    return top


def _open_below(spec: ImageSpec, locks: LockSet | None, caching: Caching, *, from_storage: bool) -> ImageNode:
    assert spec.format is not None  # the chain has probed it
    return open_one(
        spec.file, spec.format, read_only=True, locks=locks, caching=caching, from_storage=from_storage
    )


def open_one(
    file: str,
    name: str,
    *,
    read_only: bool,
    locks: LockSet | None,
    caching: Caching = WRITEBACK,
    from_storage: bool = False,
    is_backing: bool = True,
    limits: Limits = LIMITS,
) -> ImageNode:
    """Open an image, by default one that backs another, without what backs it. Raises OSError."""
    _check_format(name)
    if name == "qcow2":
        return Qcow2Node(
            file,
            read_only=read_only,
            locks=locks,
            is_backing=is_backing,
            caching=caching,
            from_storage=from_storage,
            limits=limits,
        )
    return RawNode(
        file,
        read_only=read_only,
        lock=locks is not None,
        locks=locks,
        caching=caching,
        from_storage=from_storage,
    )


def images_of(top: ImageNode) -> Iterator[ImageNode]:
    """Yield an open image and its backing images, topmost first."""
    node: Node | None = top
    while node is not None:
        yield cast(ImageNode, node)  # an image's backing node is always an image
        node = node.backing


def identify(image: ImageNode) -> tuple[FileIdentity, ...]:
    """Return the identities of an image's and its backing images' files, topmost first. Raises OSError.

    On one running kernel, equal identities mean the same disk.
    """
    return tuple((each.format, *file.identity) for each in images_of(image) for file in each.files)


def look_at_image(
    path: str, image_format: str, *, backing: Backing = FROM_HEADER, read_only: bool = False
) -> list[Layer]:
    """Read the headers of an image and its backing chain, topmost first, without locking. Raises OSError."""
    chain = _Chain()
    file = os.fspath(path)
    chain.enter(file)
    layers = [_look_at_one(file, image_format, read_only=read_only)]
    while True:
        header = layers[-1].header
        with _telling_of_backing():
            below = chain.below(file, backing, None if header is None else header.backing_name)
            if below is None:
                break
            given = backing if isinstance(backing, ImageSpec) else None
            file, backing = below.file, below.backing
            assert below.format is not None  # the chain has probed it
            layer = _look_at_one(file, below.format, read_only=True)
            why = wrong_driver(layer, below.file_driver)
            if why is not None:
                raise OSError(errno.EINVAL, why)
            layers.append(replace(layer, given=given))
    if backing is None and header is not None and header.backing_name is not None:
        layers[-1] = replace(layers[-1], is_cut_off=True)
    return layers


class _Chain:
    """Walks down a backing chain, and refuses an image that occurs twice."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int] | str] = set()

    def enter(self, file: str) -> None:
        """Note an image of the chain. Raises OSError if it was noted before."""
        identity = _place_of(file)
        if identity in self._seen:
            raise OSError(errno.ELOOP, f"Backing file '{file}' creates an infinite loop.")
        if len(self._seen) == MAX_CHAIN:
            raise OSError(errno.ELOOP, f"the backing chain has more than {MAX_CHAIN} images, at '{file}'")
        self._seen.add(identity)

    def below(self, overlay: str, given: Backing, named: tuple[str, str | None] | None) -> ImageSpec | None:
        """Return an overlay's backing image with its format, probing it if nothing says it; None without one.

        ``given`` is what the drive's options say, ``named`` what the overlay says. Raises OSError.
        """
        if given is None or (given is FROM_HEADER and named is None):
            return None
        if isinstance(given, ImageSpec) and given.file:
            spec = given
        elif named is None:
            raise OSError(errno.EINVAL, 'A block device must be specified for "file"')
        else:
            spec = backing_image(overlay, *named)
            if isinstance(given, ImageSpec):
                spec = replace(given, file=spec.file, format=given.format or spec.format)
        try:
            self.enter(spec.file)
            return replace(spec, format=spec.format or probe_format(spec.file))
        except OSError as error:
            if error.filename is None:
                raise
            raise OSError(error.errno, f"Could not open '{spec.file}': {error.strerror}") from error


def _place_of(file: str) -> tuple[int, int] | str:
    """Return what distinguishes a file from others. Raises OSError."""
    if is_export(file):
        return file
    status = os.stat(real_name(file))
    return status.st_dev, status.st_ino


@contextmanager
def _telling_of_backing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = reason(error)
        if error.filename is not None:
            why = f"Could not open '{error.filename}': {why}"
        if not why.startswith(_OF_BACKING):
            why = _OF_BACKING + why
        raise OSError(error.errno, why) from error


def forget_cached(image: ImageNode) -> None:
    """Drop this host's page cache of an image and its backing chain. Raises OSError."""
    for each in images_of(image):
        for file in each.files:
            file.forget_cached()


def check_locks(image: ImageNode, *, read_only: bool) -> None:
    """Check that ``open_image`` could lock this image, which is open without locks, and its backing images.

    Takes no locks. Raises ImageLockedError.
    """
    for each in images_of(image):
        locks = BACKING_LOCKS
        if each is image:
            locks = _locks_of(each.format, read_only=read_only, is_shared=False)
        for file in each.files:
            file.check_locks(locks)


def _locks_of(format: str, *, read_only: bool, is_shared: bool) -> LockSet:
    """Return the locks of a drive's topmost image."""
    if is_shared:
        return SHARED_READ
    if format == "qcow2":
        return BACKING_LOCKS if read_only else QCOW2_LOCKS
    return READ_ONLY_DISK if read_only else DISK


def _look_at_one(file: str, name: str, *, read_only: bool) -> Layer:
    _check_format(name)
    node = open_image_file(file, read_only=read_only, locks=None)
    try:
        device_size = node.size if node.is_device or is_export(file) else 0
        if name == "qcow2":
            header = read_header(node, for_writing=not read_only)
            snapshots = tuple(read_snapshots(node, header, node.size))
            bitmaps = read_listed(node, header)
            layer = Layer(file, name, header.size, header, snapshots, bitmaps, device_size=device_size)
        else:
            layer = Layer(file, "raw", -(-node.size // SECTOR) * SECTOR, device_size=device_size)
        return replace(layer, name=read_name(file).shown) if is_export(file) else layer
    finally:
        node.close()


def _check_format(name: str) -> None:
    if name not in (*FORMATS, *_RAW_BACKING):
        raise OSError(errno.EINVAL, f"Unknown driver '{name}': raw and qcow2 are known")
