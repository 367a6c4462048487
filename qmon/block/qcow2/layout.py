"""Where the parts of a new qcow2 image lie, and the bytes of its header. Pure.

Source: QEMU, docs/interop/qcow2, "Header", "Host cluster management".
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass

from qmon.block.qcow2.header import (
    BASE,
    EXTENSION,
    MAGIC,
    MAX_L1_BYTES,
    MAX_REFCOUNT_TABLE_BYTES,
    VERSION_3,
    Autoclear,
    Compatible,
    Compression,
    Extension,
    Incompatible,
    l1_entries_for,
)

_MAX_BACKING_NAME = 1023

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


@dataclass(frozen=True, slots=True)
class NewImage:
    """A new image: its virtual size in bytes, and what can be chosen. Defaults as of ``qemu-img create``."""

    size: int
    backing_file: str = ""
    backing_format: str = ""
    version: int = 3
    cluster_bits: int = 16
    refcount_order: int = 4
    lazy_refcounts: bool = False
    compression: Compression = Compression.ZLIB
    is_preallocated: bool = False
    """Whether every cluster of the disk gets its place in the file."""

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l1_entries(self) -> int:
        return l1_entries_for(self.size, self.cluster_bits)


@dataclass(frozen=True, slots=True)
class Layout:
    """The numbers of clusters of each part, in their order in the file: the header's cluster, then these."""

    refcount_table: int
    refcount_blocks: int
    l1: int
    l2: int
    data: int

    @property
    def first_block(self) -> int:
        """The number of the first refcount block's cluster; the refcount table's is 1."""
        return 1 + self.refcount_table

    @property
    def first_l1(self) -> int:
        return self.first_block + self.refcount_blocks

    @property
    def first_l2(self) -> int:
        return self.first_l1 + self.l1

    @property
    def first_data(self) -> int:
        return self.first_l2 + self.l2

    @property
    def clusters(self) -> int:
        return self.first_data + self.data


def layout_of(image: NewImage) -> Layout:
    """Lay out an image. Raises OSError: EFBIG if a table would be too large."""
    if image.l1_entries * 8 > MAX_L1_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    bits = image.cluster_bits
    l1 = -(-image.l1_entries * 8 >> bits)
    l2 = image.l1_entries if image.is_preallocated else 0
    data = -(-image.size >> bits) if image.is_preallocated else 0
    entries_per_block = (image.cluster_size * 8) >> image.refcount_order
    table = blocks = 1
    while True:  # the counts have counts, too
        total = 1 + table + blocks + l1 + l2 + data
        needed_blocks = -(-total // entries_per_block)
        needed_table = -(-needed_blocks * 8 >> bits)
        if needed_blocks <= blocks and needed_table <= table:
            break
        blocks, table = max(needed_blocks, blocks), max(needed_table, table)
    if table << bits > MAX_REFCOUNT_TABLE_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return Layout(table, blocks, l1, l2, data)


def header_bytes(image: NewImage, layout: Layout) -> bytes:
    """Return the start of the first cluster, with the backing file's name, if any.

    Raises OSError: EINVAL if the name is too long.
    """
    name = os.fsencode(image.backing_file)
    is_new = image.version >= 3
    length = BASE.size + (VERSION_3.size + 8 if is_new else 0)  # 8: the compression type with its padding
    backing = b""
    if image.backing_format:
        backing = _extension(Extension.BACKING_FORMAT, image.backing_format.encode())
    end = _extension(Extension.END, b"")
    features = _extension(Extension.FEATURE_NAMES, _feature_names()) if is_new else b""
    if length + len(backing + features + end + name) > image.cluster_size:
        features = b""
    extensions = backing + features + end
    if len(name) > min(_MAX_BACKING_NAME, image.cluster_size - length - len(extensions)):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    bits = image.cluster_bits
    base = BASE.pack(
        MAGIC,
        image.version,
        length + len(extensions) if name else 0,
        len(name),
        bits,
        image.size,
        0,
        image.l1_entries,
        layout.first_l1 << bits if image.l1_entries else 0,
        1 << bits,
        layout.refcount_table,
        0,
        0,
    )
    if not is_new:
        return base + extensions + name
    incompatible = Incompatible.COMPRESSION_TYPE if image.compression is not Compression.ZLIB else 0
    compatible = Compatible.LAZY_REFCOUNTS if image.lazy_refcounts else 0
    more = VERSION_3.pack(incompatible, compatible, 0, image.refcount_order, length)
    return base + more + bytes([image.compression]) + bytes(7) + extensions + name


def _feature_names() -> bytes:
    return b"".join(
        struct.pack(">BB46s", kind, bit.bit_length() - 1, text.encode()) for kind, bit, text in _FEATURES
    )


def _extension(kind: Extension, data: bytes) -> bytes:
    return EXTENSION.pack(kind, len(data)) + data + bytes(-len(data) % 8)
