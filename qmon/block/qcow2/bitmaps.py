"""The directory of persistent bitmaps: reads and encodes it (QEMU, docs/interop/qcow2, "Bitmaps")."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from qmon.block.image_file import ImageFile
from qmon.block.qcow2.header import Autoclear, Header, Qcow2Error

_EXTENSION = struct.Struct(">IIQQ")
_ENTRY = struct.Struct(">QIIBBHI")
MAX_BITMAPS = 65535
MAX_DIRECTORY_BYTES = 64 << 20
_MAX_NAME_BYTES = 1023
_GRANULARITY_BITS = range(9, 32)
_DIRTY_TRACKING = 1


class Flag(enum.IntFlag):
    """The flags of a bitmap's entry."""

    IN_USE = 1
    AUTO = 2
    EXTRA_DATA_COMPATIBLE = 4


@dataclass(frozen=True, slots=True)
class Bitmap:
    """One entry of the directory. ``table_offset`` is in bytes; the table's entries have 8 bytes each.

    The table's place is not checked: it may be outside the file.
    """

    name: bytes
    flags: int
    kind: int
    granularity_bits: int
    table_offset: int
    table_entries: int
    has_extra: bool = False
    """Whether the entry has data of a kind that is not known here."""

    @property
    def shown_name(self) -> str:
        """The name up to a null byte, as QEMU reads it."""
        return self.name.split(b"\0")[0].decode(errors="replace")

    @property
    def is_known(self) -> bool:
        """Whether its flags and type are known. QEMU refuses an image with a bitmap of which they are not."""
        return (
            self.kind == _DIRTY_TRACKING
            and not self.flags & ~sum(Flag)
            and not self.has_extra
            and self.granularity_bits in _GRANULARITY_BITS
            and 0 < len(self.name) <= _MAX_NAME_BYTES
        )


@dataclass(frozen=True, slots=True)
class Directory:
    """The directory: its offset and length in the file in bytes, and its bitmaps."""

    offset: int
    length: int
    bitmaps: tuple[Bitmap, ...]


def read_directory(file: ImageFile, header: Header) -> Directory | None:
    """Read the directory; return None if the image has none, or if the bitmaps are not up to date.

    Raises Qcow2Error if it is damaged, OSError.
    """
    if header.bitmaps is None or not header.autoclear & Autoclear.BITMAPS:
        return None
    if len(header.bitmaps) < _EXTENSION.size:
        raise Qcow2Error("the bitmaps extension is too short")
    number, _, length, offset = _EXTENSION.unpack_from(header.bitmaps)
    file_size = file.size
    if length > min(MAX_DIRECTORY_BYTES, file_size) or offset + length > file_size:
        raise Qcow2Error("the bitmap directory lies outside the file")
    if number > MAX_BITMAPS:
        raise Qcow2Error(f"there are more than {MAX_BITMAPS} bitmaps")
    data = bytearray(length)
    file.read_into(offset, memoryview(data))
    return Directory(offset, length, _parse(data, number))


def read_listed(file: ImageFile, header: Header) -> tuple[Bitmap, ...]:
    """Return the bitmaps to list: none if the directory is damaged. Raises OSError."""
    try:
        directory = read_directory(file, header)
    except Qcow2Error:
        return ()  # reading the disk does not need the bitmaps
    if directory is None or not all(bitmap.is_known for bitmap in directory.bitmaps):
        return ()
    return directory.bitmaps


def entry_length(name: bytes) -> int:
    """Return how many bytes an entry of a directory takes."""
    return -(-(_ENTRY.size + len(name)) // 8) * 8


def encode_directory(bitmaps: Iterable[Bitmap]) -> bytes:
    """Return the bytes of a directory. The bitmaps have no extra data."""
    entries = (
        _ENTRY.pack(
            each.table_offset,
            each.table_entries,
            each.flags,
            each.kind,
            each.granularity_bits,
            len(each.name),
            0,
        )
        + each.name
        for each in bitmaps
    )
    return b"".join(entry.ljust(-(-len(entry) // 8) * 8, b"\0") for entry in entries)


def _parse(data: bytearray, number: int) -> tuple[Bitmap, ...]:
    found = []
    position = 0
    for _ in range(number):
        if position + _ENTRY.size > len(data):
            raise Qcow2Error("the bitmap directory is damaged")
        table, entries, flags, kind, granularity, name_length, extra = _ENTRY.unpack_from(data, position)
        name_start = position + _ENTRY.size + extra
        position += -(-(_ENTRY.size + extra + name_length) // 8) * 8
        if position > len(data):
            raise Qcow2Error("the bitmap directory is damaged")
        name = bytes(data[name_start : name_start + name_length])
        found.append(Bitmap(name, flags, kind, granularity, table, entries, bool(extra)))
    return tuple(found)
