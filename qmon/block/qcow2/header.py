"""Parses the header of a qcow2 image, and checks all that can be checked without reading tables.

Source: QEMU, docs/interop/qcow2, "Header" and "Header extensions"; the limits named there are QEMU's own.
"""

from __future__ import annotations

import enum
import errno
import struct
from dataclasses import dataclass

MAGIC = b"QFI\xfb"
SECTOR = 512

MAX_L1_BYTES = 32 << 20
MAX_REFCOUNT_TABLE_BYTES = 8 << 20
MAX_SNAPSHOTS = 65536
MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
MAX_HEADER_BYTES = 1 << MAX_CLUSTER_BITS
"""Bytes to read from the file's start: the header ends within the first cluster."""

BASE = struct.Struct(">4sIQIIQIIQQIIQ")
VERSION_3 = struct.Struct(">QQQII")
EXTENSION = struct.Struct(">II")
_COMPRESSION_TYPE_OFFSET = 104

# Offsets of fields that are rewritten in place. Fields of one struct share a sector, so they change at once.
SIZE_OFFSET = 24
REFCOUNT_TABLE_FIELDS = struct.Struct(">QI")
REFCOUNT_TABLE_OFFSET = 48
RESIZE_FIELDS = struct.Struct(">QIIQ")
"""Size, encryption method, number of L1 entries, L1 offset: from SIZE_OFFSET on."""
SNAPSHOT_FIELDS = struct.Struct(">IQ")
"""Number of snapshots and the offset of their table."""
SNAPSHOTS_OFFSET = 60
FEATURES = struct.Struct(">Q")
INCOMPATIBLE_OFFSET = 72
AUTOCLEAR_OFFSET = 88


class Qcow2Error(OSError):
    """An image can't be opened as qcow2; ``strerror`` says why, and the caller adds the file's name."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EINVAL, why)


class Incompatible(enum.IntFlag):
    """Features that a program must know to open the image."""

    DIRTY = 1
    CORRUPT = 2
    DATA_FILE = 4
    COMPRESSION_TYPE = 8
    EXTENDED_L2 = 16


class Compatible(enum.IntFlag):
    """Features that a program may ignore."""

    LAZY_REFCOUNTS = 1


class Autoclear(enum.IntFlag):
    """Features whose bit a writer must clear if it does not keep them up to date."""

    BITMAPS = 1
    RAW_DATA_FILE = 2


class Compression(enum.IntEnum):
    """The algorithm of compressed clusters."""

    ZLIB = 0
    ZSTD = 1


class Extension(enum.IntEnum):
    """The header extensions that qmon reads."""

    END = 0
    BACKING_FORMAT = 0xE2792ACA
    FEATURE_NAMES = 0x6803F857
    BITMAPS = 0x23852875
    ENCRYPTION = 0x0537BE77
    DATA_FILE = 0x44415441


_REFUSED_FEATURES = {
    Incompatible.EXTENDED_L2: "extended L2 entries",
}
_KNOWN = sum(Incompatible)


@dataclass(frozen=True, slots=True)
class Header:
    """The header's fields; offsets and sizes in bytes, ``size`` rounded down to sectors as by QEMU."""

    version: int
    size: int
    cluster_bits: int
    l1_entries: int
    l1_offset: int
    refcount_order: int
    refcount_table_offset: int
    refcount_table_clusters: int
    snapshots: int
    snapshots_offset: int
    incompatible: int
    compatible: int
    autoclear: int
    compression: Compression
    backing_file: str | None
    backing_format: str | None
    bitmaps: bytes | None
    """The bytes of the bitmaps extension."""
    data_file: str | None = None
    """The name of the external data file, which has the guest's data at the same offsets as the disk."""

    @property
    def backing_name(self) -> tuple[str, str | None] | None:
        """The backing file's name and its format (None if not given), as written in the header."""
        return None if self.backing_file is None else (self.backing_file, self.backing_format)

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l2_bits(self) -> int:
        """The binary logarithm of the number of entries of an L2 table."""
        return self.cluster_bits - 3

    @property
    def is_raw_outside(self) -> bool:
        """Whether the data file must always be identical to the disk (``data-file-raw``)."""
        return self.data_file is not None and bool(self.autoclear & Autoclear.RAW_DATA_FILE)

    @property
    def is_dirty(self) -> bool:
        return bool(self.incompatible & Incompatible.DIRTY)

    @property
    def is_corrupt(self) -> bool:
        return bool(self.incompatible & Incompatible.CORRUPT)


def l1_entries_for(size: int, cluster_bits: int) -> int:
    """Return how many L1 entries a disk of ``size`` bytes needs."""
    return -(-size >> (2 * cluster_bits - 3)) if size else 0


def parse_header(data: bytes, file_size: int, *, for_writing: bool) -> Header:
    """Parse the header from the file's first MAX_HEADER_BYTES, or from all of a shorter file.

    Raises Qcow2Error if the image can't be opened, or not for writing if ``for_writing``.
    """
    if len(data) < BASE.size or data[:4] != MAGIC:
        raise Qcow2Error("Image is not in qcow2 format")
    (
        _,
        version,
        backing_offset,
        backing_length,
        cluster_bits,
        size,
        encryption,
        l1_entries,
        l1_offset,
        refcount_table_offset,
        refcount_table_clusters,
        snapshots,
        snapshots_offset,
    ) = BASE.unpack_from(data)
    if version not in (2, 3):
        raise Qcow2Error(f"Unsupported qcow2 version {version}")
    if not MIN_CLUSTER_BITS <= cluster_bits <= MAX_CLUSTER_BITS:
        raise Qcow2Error(f"Unsupported cluster size: 2^{cluster_bits}")
    incompatible = compatible = autoclear = 0
    refcount_order, length = 4, BASE.size
    if version == 3:
        if len(data) < BASE.size + VERSION_3.size:
            raise Qcow2Error("qcow2 header too short")
        incompatible, compatible, autoclear, refcount_order, length = VERSION_3.unpack_from(data, BASE.size)
        if length < BASE.size + VERSION_3.size or length % 8:
            raise Qcow2Error(f"qcow2 header too short, or not a multiple of 8 bytes: {length} bytes")
        if length > 1 << cluster_bits:
            raise Qcow2Error("qcow2 header exceeds cluster size")
    first_cluster = data[: 1 << cluster_bits]
    if backing_offset and not length <= backing_offset <= len(first_cluster):
        raise Qcow2Error("Invalid backing file offset")
    extensions = _read_extensions(first_cluster[: backing_offset or None], length)
    _check_features(incompatible, extensions.get(Extension.FEATURE_NAMES, b""))
    if incompatible & Incompatible.CORRUPT and for_writing:
        raise Qcow2Error("qcow2: Image is corrupt; cannot be opened read/write")
    if refcount_order > 6:
        raise Qcow2Error("Reference count entry width too large; may not exceed 64 bits")
    if encryption or Extension.ENCRYPTION in extensions:
        raise Qcow2Error("encrypted qcow2 images are not supported: convert it to an unencrypted one")
    header = Header(
        version=version,
        size=size // SECTOR * SECTOR,
        cluster_bits=cluster_bits,
        l1_entries=l1_entries,
        l1_offset=l1_offset,
        refcount_order=refcount_order,
        refcount_table_offset=refcount_table_offset,
        refcount_table_clusters=refcount_table_clusters,
        snapshots=snapshots,
        snapshots_offset=snapshots_offset,
        incompatible=incompatible,
        compatible=compatible,
        autoclear=autoclear,
        compression=_read_compression(data, length, incompatible),
        backing_file=_read_backing_file(first_cluster, backing_offset, backing_length),
        backing_format=_text(extensions[Extension.BACKING_FORMAT], "backing format")
        if Extension.BACKING_FORMAT in extensions and backing_offset
        else None,
        bitmaps=extensions.get(Extension.BITMAPS),
        data_file=_read_data_file(incompatible, extensions),
    )
    _check_tables(header, file_size)
    if for_writing and header.data_file is not None:
        _check_data_file(header)
    return header


def _read_extensions(data: bytes, position: int) -> dict[int, bytes]:
    extensions: dict[int, bytes] = {}
    while position + EXTENSION.size <= len(data):
        kind, length = EXTENSION.unpack_from(data, position)
        if kind == Extension.END:
            break
        position += EXTENSION.size
        if length > len(data) - position:
            raise Qcow2Error("Header extension too large")
        extensions.setdefault(kind, data[position : position + length])
        position += -(-length // 8) * 8
    return extensions


def _read_data_file(incompatible: int, extensions: dict[int, bytes]) -> str | None:
    if not incompatible & Incompatible.DATA_FILE:
        return None
    name = _text(extensions.get(Extension.DATA_FILE, b""), "data file name").rstrip("\0")
    if not name:
        raise Qcow2Error("'data-file' is required for this image")
    if "\0" in name:
        raise Qcow2Error("the image is damaged: its data file name contains a null byte")
    return name


def _check_data_file(header: Header) -> None:
    """Refuse combinations that QEMU never makes and that would give a cluster two places."""
    if header.snapshots:
        raise Qcow2Error("an image with an external data file and snapshots can't be written")
    if header.is_raw_outside and header.backing_file is not None:
        raise Qcow2Error("Backing file and data-file-raw cannot be used at the same time")


def _check_features(incompatible: int, names: bytes) -> None:
    for feature, name in _REFUSED_FEATURES.items():
        if incompatible & feature:
            raise Qcow2Error(f"the qcow2 image uses {name}, which is not supported")
    unknown = [bit for bit in range(64) if incompatible >> bit & 1 and not _KNOWN >> bit & 1]
    if unknown:
        table = {
            names[start + 1]: names[start + 2 : start + 48].split(b"\0")[0].decode(errors="replace")
            for start in range(0, len(names) - 47, 48)
            if names[start] == 0
        }
        said = ", ".join(table.get(bit) or f"Unknown incompatible feature: {1 << bit:x}" for bit in unknown)
        raise Qcow2Error(f"Unsupported qcow2 feature(s): {said}")


def _read_compression(data: bytes, length: int, incompatible: int) -> Compression:
    kind = data[_COMPRESSION_TYPE_OFFSET] if min(length, len(data)) > _COMPRESSION_TYPE_OFFSET else 0
    if bool(incompatible & Incompatible.COMPRESSION_TYPE) is not (kind != Compression.ZLIB):
        raise Qcow2Error("qcow2: Compression type incompatible feature bit must match the compression type")
    try:
        return Compression(kind)
    except ValueError:
        raise Qcow2Error(f"qcow2: unknown compression type: {kind}") from None


def _read_backing_file(first_cluster: bytes, offset: int, length: int) -> str | None:
    if not offset:
        return None
    if length > min(1023, len(first_cluster) - offset):
        raise Qcow2Error("Backing file name too long")
    name = _text(first_cluster[offset : offset + length], "backing file name")
    if "\0" in name:
        raise Qcow2Error("the image is damaged: its backing file name contains a null byte")
    return name or None


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Qcow2Error(f"the image is damaged: its {what} is not UTF-8") from None


def _check_tables(header: Header, file_size: int) -> None:
    needed = l1_entries_for(header.size, header.cluster_bits)
    if header.l1_entries * 8 > MAX_L1_BYTES or needed * 8 > MAX_L1_BYTES:
        raise Qcow2Error("Active L1 table too large")
    if header.l1_entries < needed:
        raise Qcow2Error("L1 table is too small")
    _check_place(header, "Active L1 table", header.l1_offset, header.l1_entries * 8, file_size)
    refcount_bytes = header.refcount_table_clusters << header.cluster_bits
    if not refcount_bytes:
        raise Qcow2Error("Image does not contain a reference count table")
    if refcount_bytes > MAX_REFCOUNT_TABLE_BYTES:
        raise Qcow2Error("Reference count table too large")
    _check_place(header, "Reference count table", header.refcount_table_offset, refcount_bytes, file_size)
    if header.snapshots > MAX_SNAPSHOTS:
        raise Qcow2Error("Snapshot table too large")
    _check_place(header, "Snapshot table", header.snapshots_offset, header.snapshots * 40, file_size)


def _check_place(header: Header, what: str, offset: int, length: int, file_size: int) -> None:
    if not length:
        return
    if offset % header.cluster_size or not offset:
        raise Qcow2Error(f"{what} offset invalid")
    if offset + length > file_size:
        raise Qcow2Error(f"{what} ends outside the file: the file was truncated, or its header is damaged")
