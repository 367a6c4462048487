"""Opens an image by its format's name, with its backing chain."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, cast

from qmon.block.file import FileNode
from qmon.block.locks import DISK, READ_ONLY_DISK, LockSet, Permission
from qmon.block.node import Node
from qmon.block.probe import probe_format
from qmon.block.qcow2.bitmaps import Bitmap, read_listed
from qmon.block.qcow2.core import read_header
from qmon.block.qcow2.header import Header
from qmon.block.qcow2.internal_snapshots import InternalSnapshots
from qmon.block.qcow2.limits import LIMITS, Limits
from qmon.block.qcow2.node import LOCKS as QCOW2_LOCKS
from qmon.block.qcow2.node import Qcow2Node
from qmon.block.qcow2.snapshots import Snapshot, read_snapshots
from qmon.block.raw import SECTOR, RawNode
from qmon.errors import reason
from qmon.host.fdsets import real_name
from qmon.notation.file_names import is_same_file, split_protocol

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

    backing: Node | None
    """The backing image, an ImageNode, or None; set it before the first request."""

    @property
    def backing_name(self) -> tuple[str, str | None] | None:
        """The backing file's name and its format (None if not given), as written in the image."""

    @property
    def is_dirty(self) -> bool:
        """Whether it was not closed properly and must be repaired before it is changed."""

    @property
    def files(self) -> Sequence[FileNode]:
        """The image's own file, then its external data file if it has one."""

    @property
    def locks(self) -> LockSet:
        """The locks that it holds."""

    def change_locks(self, locks: LockSet) -> None:
        """Replace the held locks. Raises ImageLockedError."""

    @property
    def keeps_bitmaps(self) -> bool:
        """Whether its persistent bitmaps are up to date: nothing was changed since it was opened."""

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


@dataclass(frozen=True, slots=True)
class Layer:
    """One image of a chain, as found on disk: its file, and its header unless it is raw."""

    file: str
    format: str
    size: int
    header: Header | None = None
    snapshots: tuple[Snapshot, ...] = ()
    bitmaps: tuple[Bitmap, ...] = ()
    """The persistent bitmaps that are consistent."""


def open_image(
    path: str,
    image_format: str,
    *,
    read_only: bool = False,
    lock: bool = True,
    direct: bool = False,
    limits: Limits = LIMITS,
) -> ImageNode:
    """Open an image and its backing chain; with ``lock`` it is locked as a running guest's disk.

    With ``direct`` reads bypass this host's page cache; ``limits`` are those of qcow2 tables. Raises OSError;
    ENOTSUP for an unsupported format.
    """
    chain = _Chain()
    file = os.fspath(path)
    chain.enter(file)
    top = node = _open_one(file, image_format, read_only=read_only, lock=lock, direct=direct, limits=limits)
    try:
        while node.backing_name is not None:
            above = node
            with _telling_of_backing():
                file, name = chain.below(file, *node.backing_name)
                locks = BACKING_LOCKS if lock else None
                above.backing = node = open_one(file, name, read_only=True, locks=locks, direct=direct)
    except BaseException:
        top.close()
        raise
    return top


def open_one(
    file: str, name: str, *, read_only: bool, locks: LockSet | None, direct: bool = False
) -> ImageNode:
    """Open an image that backs another, without what backs it. Raises OSError."""
    _check_format(name)
    if name == "qcow2":
        return Qcow2Node(file, read_only=read_only, locks=locks, is_backing=True, direct=direct)
    return RawNode(file, read_only=read_only, lock=locks is not None, locks=locks, direct=direct)


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


def look_at_image(path: str, image_format: str, *, read_only: bool = False) -> list[Layer]:
    """Read the headers of an image and its backing chain, topmost first, without locking. Raises OSError."""
    chain = _Chain()
    file = os.fspath(path)
    chain.enter(file)
    layers = [_look_at_one(file, image_format, read_only=read_only)]
    while (header := layers[-1].header) is not None and header.backing_name is not None:
        with _telling_of_backing():
            file, name = chain.below(file, *header.backing_name)
            layers.append(_look_at_one(file, name, read_only=True))
    return layers


def backing_path(overlay: str, name: str) -> str:
    """Return the path of the backing file that an overlay names, resolved as by QEMU.

    A relative name starts at the overlay's folder; after "file:", like every name with a protocol, at the
    current folder. Raises OSError for a name that is not a file's.
    """
    path = full_backing_name(overlay, name)
    if path == name:
        path = name.removeprefix("file:")
    if split_protocol(path)[0] is not None:
        raise OSError(errno.ENOTSUP, f"'{name}' is not a file's name; only files are supported")
    return path


def full_backing_name(overlay: str, name: str) -> str:
    """Return QEMU's full name of a backing file that an overlay names (block.c, path_combine)."""
    if name.startswith("/") or split_protocol(name)[0] is not None:
        return name
    return overlay[: overlay.rfind("/") + 1] + name


def keep_names(layers: Sequence[Layer], known: Sequence[Layer]) -> list[Layer]:
    """Return the layers with the file names from ``known``, which describes the same chain."""
    names = [layer.file for layer in known[: len(layers)]]
    names += [layer.file for layer in layers[len(names) :]]
    return [
        replace(layer, file=name) if is_same_file(layer.file, name) else layer
        for layer, name in zip(layers, names, strict=True)
    ]


class _Chain:
    """Walks down a backing chain, and refuses an image that occurs twice."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def enter(self, file: str) -> None:
        """Note an image of the chain. Raises OSError if it was noted before."""
        status = os.stat(real_name(file))
        identity = (status.st_dev, status.st_ino)
        if identity in self._seen:
            raise OSError(errno.ELOOP, f"Backing file '{file}' creates an infinite loop.")
        if len(self._seen) == MAX_CHAIN:
            raise OSError(errno.ELOOP, f"the backing chain has more than {MAX_CHAIN} images, at '{file}'")
        self._seen.add(identity)

    def below(self, overlay: str, name: str, format: str | None) -> tuple[str, str]:
        """Return the file and format of an overlay's backing image, probing if not given. Raises OSError."""
        file = backing_path(overlay, name)
        try:
            self.enter(file)
            return file, format or probe_format(file)
        except OSError as error:
            if error.filename is None:
                raise
            raise OSError(error.errno, f"Could not open '{file}': {error.strerror}") from error


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
            locks = _disk_locks(each.format, read_only=read_only)
        for file in each.files:
            file.check_locks(locks)


def _disk_locks(format: str, *, read_only: bool) -> LockSet:
    """Return the locks of a running guest's disk."""
    if format == "qcow2":
        return BACKING_LOCKS if read_only else QCOW2_LOCKS
    return READ_ONLY_DISK if read_only else DISK


def _open_one(
    file: str, name: str, *, read_only: bool, lock: bool, direct: bool, limits: Limits
) -> ImageNode:
    _check_format(name)
    if name == "qcow2":
        locks = _disk_locks(name, read_only=read_only) if lock else None
        return Qcow2Node(file, read_only=read_only, locks=locks, direct=direct, limits=limits)
    return RawNode(file, read_only=read_only, lock=lock, direct=direct)


def _look_at_one(file: str, name: str, *, read_only: bool) -> Layer:
    _check_format(name)
    node = FileNode(file, read_only=read_only, locks=None)
    try:
        if name == "qcow2":
            header = read_header(node, for_writing=not read_only)
            snapshots = tuple(read_snapshots(node, header, node.size))
            return Layer(file, name, header.size, header, snapshots, read_listed(node, header))
        return Layer(file, "raw", -(-node.size // SECTOR) * SECTOR)
    finally:
        node.close()


def _check_format(name: str) -> None:
    if name not in (*FORMATS, *_RAW_BACKING):
        raise OSError(errno.EINVAL, f"Unknown driver '{name}': raw and qcow2 are known")
