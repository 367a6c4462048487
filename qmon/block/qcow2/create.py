"""Creates an empty qcow2 overlay, with the layout of ``qemu-img create``.

Version 3, clusters of 64 KiB, counts of 16 bits (QEMU, docs/interop/qcow2, "Header").
"""

from __future__ import annotations

import errno
import os
import struct

from qmon.block.file import FileNode
from qmon.block.locks import LockSet
from qmon.block.qcow2.header import (
    BASE,
    EXTENSION,
    MAGIC,
    MAX_L1_BYTES,
    SECTOR,
    VERSION_3,
    Autoclear,
    Compatible,
    Extension,
    Incompatible,
    l1_entries_for,
)

_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
_REFCOUNT_ORDER = 4
_REFCOUNT_TABLE, _REFCOUNT_BLOCK, _L1 = 1, 2, 3
"""The clusters of these tables; the header is cluster 0."""
_MAX_BACKING_NAME = 1023
_MODE = 0o644

_FEATURES = (
    (0, Incompatible.DIRTY, "dirty bit"),
    (0, Incompatible.CORRUPT, "corrupt bit"),
    (0, Incompatible.DATA_FILE, "external data file"),
    (0, Incompatible.COMPRESSION_TYPE, "compression type"),
    (0, Incompatible.EXTENDED_L2, "extended L2 entries"),
    (1, Compatible.LAZY_REFCOUNTS, "lazy refcounts"),
    (2, Autoclear.BITMAPS, "bitmaps"),
    (2, Autoclear.RAW_DATA_FILE, "raw external data"),
)
"""Kind, bit and name of each feature. Programs that don't know a feature can name it from this table."""


def create_overlay(path: str, size: int, backing_file: str, backing_format: str, locks: LockSet) -> None:
    """Create an empty overlay of ``size`` bytes on ``backing_file``, and bring it to stable storage.

    Nothing is overwritten: the file must not exist, or be empty and unused. ``locks`` are held while it is
    written. If writing fails, a file that was created here is removed. Raises OSError.
    """
    header = overlay_header(size, backing_file, backing_format)
    l1_bytes = l1_entries_for(size, _CLUSTER_BITS) * 8
    is_new = _make_empty_file(path)
    try:
        file = FileNode(path, read_only=False, locks=locks)
        try:
            if file.size:
                raise FileExistsError(errno.EEXIST, "it already exists and is not empty")
            _write(file, header, l1_bytes)
        finally:
            file.close()
        _sync_folder(path)
    except BaseException:
        if is_new:
            os.unlink(path)
        raise


def write_temporary(path: str, size: int) -> None:
    """Make an empty file an image of ``size`` bytes that names no backing image. Raises OSError."""
    file = FileNode(path, read_only=False, locks=None)
    try:
        _write(file, overlay_header(size, "", ""), l1_entries_for(size, _CLUSTER_BITS) * 8)
    finally:
        file.close()


def overlay_header(size: int, backing_file: str, backing_format: str) -> bytes:
    """Return the start of the first cluster, with header and backing file name, if any. Raises OSError."""
    l1_entries = l1_entries_for(size, _CLUSTER_BITS)
    if l1_entries * 8 > MAX_L1_BYTES:
        raise OSError(errno.EFBIG, "the size is too large for an image with 64 KiB clusters")
    name = os.fsencode(backing_file)
    if len(name) > _MAX_BACKING_NAME:
        raise OSError(errno.EINVAL, f"Backing file name too long: {len(name)} bytes of {_MAX_BACKING_NAME}")
    length = BASE.size + VERSION_3.size + 8  # and the compression type with its padding
    features = b"".join(
        struct.pack(">BB46s", kind, bit.bit_length() - 1, text.encode()) for kind, bit, text in _FEATURES
    )
    extensions = (
        (_extension(Extension.BACKING_FORMAT, backing_format.encode()) if backing_format else b"")
        + _extension(Extension.FEATURE_NAMES, features)
        + _extension(Extension.END, b"")
    )
    base = BASE.pack(
        MAGIC,
        3,
        length + len(extensions) if name else 0,
        len(name),
        _CLUSTER_BITS,
        size,
        0,
        l1_entries,
        _L1 << _CLUSTER_BITS if l1_entries else 0,
        _REFCOUNT_TABLE << _CLUSTER_BITS,
        1,
        0,
        0,
    )
    return base + VERSION_3.pack(0, 0, 0, _REFCOUNT_ORDER, length) + bytes(8) + extensions + name


def _extension(kind: Extension, data: bytes) -> bytes:
    return EXTENSION.pack(kind, len(data)) + data + bytes(-len(data) % 8)


def _make_empty_file(path: str) -> bool:
    """Create an empty file; return False if it already exists."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
    except FileExistsError:
        return False
    return True


def _write(file: FileNode, header: bytes, l1_bytes: int) -> None:
    """Write the first sector last. A sector is written atomically, so a partial file is not an image."""
    used = _L1 + -(-l1_bytes >> _CLUSTER_BITS)
    file.resize((_L1 << _CLUSTER_BITS) + l1_bytes)
    file.write(_REFCOUNT_TABLE << _CLUSTER_BITS, struct.pack(">Q", _REFCOUNT_BLOCK << _CLUSTER_BITS))
    file.write(_REFCOUNT_BLOCK << _CLUSTER_BITS, struct.pack(f">{used}H", *[1] * used))
    file.write(SECTOR, header[SECTOR:])
    file.flush()
    file.write(0, header[:SECTOR])
    file.flush()


def _sync_folder(path: str) -> None:
    """Sync a folder. Without it a crash could lose the entry of a new file."""
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
