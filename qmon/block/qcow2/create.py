"""Makes an empty qcow2 image over another one, laid out as ``qemu-img create`` lays it out.

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
"""The clusters that these lie in; the header's is 0."""
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
"""Kind, bit and name: for programs that don't know a bit to say which one it is."""


def create_overlay(path: str, size: int, backing_file: str, backing_format: str, locks: LockSet) -> None:
    """Make a file that holds an empty image of ``size`` bytes over ``backing_file``, on stable storage.

    Nothing is overwritten: the file must not be there, or be empty and nobody's, for which ``locks`` are held
    while it is written. A file that was made here is gone again when it can't be written. Raises OSError.
    """
    header = overlay_header(size, backing_file, backing_format)
    l1_bytes = l1_entries_for(size, _CLUSTER_BITS) * 8
    is_new = _make_empty_file(path)
    try:
        file = FileNode(path, read_only=False, locks=locks)
        try:
            if file.size:
                raise FileExistsError(errno.EEXIST, "it is there already, and not empty")
            _write(file, header, l1_bytes)
        finally:
            file.close()
        _sync_folder(path)
    except BaseException:
        if is_new:
            os.unlink(path)
        raise


def overlay_header(size: int, backing_file: str, backing_format: str) -> bytes:
    """The first cluster's beginning, with the backing file's name. Raises OSError for what has no room."""
    l1_entries = l1_entries_for(size, _CLUSTER_BITS)
    if l1_entries * 8 > MAX_L1_BYTES:
        raise OSError(errno.EFBIG, "an image of this cluster size can't be so large")
    name = os.fsencode(backing_file)
    if len(name) > _MAX_BACKING_NAME:
        raise OSError(errno.EINVAL, f"Backing file name too long: {len(name)} bytes of {_MAX_BACKING_NAME}")
    length = BASE.size + VERSION_3.size + 8  # and the compression type with its padding
    features = b"".join(
        struct.pack(">BB46s", kind, bit.bit_length() - 1, text.encode()) for kind, bit, text in _FEATURES
    )
    extensions = (
        _extension(Extension.BACKING_FORMAT, backing_format.encode())
        + _extension(Extension.FEATURE_NAMES, features)
        + _extension(Extension.END, b"")
    )
    base = BASE.pack(
        MAGIC,
        3,
        length + len(extensions),
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
    """Whether the file was made; one that is there is left alone."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
    except FileExistsError:
        return False
    return True


def _write(file: FileNode, header: bytes, l1_bytes: int) -> None:
    """The first sector last, which lands as one: the file is an image only when all of it is there."""
    used = _L1 + -(-l1_bytes >> _CLUSTER_BITS)
    file.resize((_L1 << _CLUSTER_BITS) + l1_bytes)
    file.write(_REFCOUNT_TABLE << _CLUSTER_BITS, struct.pack(">Q", _REFCOUNT_BLOCK << _CLUSTER_BITS))
    file.write(_REFCOUNT_BLOCK << _CLUSTER_BITS, struct.pack(f">{used}H", *[1] * used))
    file.write(SECTOR, header[SECTOR:])
    file.flush()
    file.write(0, header[:SECTOR])
    file.flush()


def _sync_folder(path: str) -> None:
    """A file that is new is lost with its folder's entry."""
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
