"""Writes the header's bitmaps extension and the bit that says that it is up to date.

QEMU, docs/interop/qcow2, "Header extensions" and "Bitmaps extension". A crash at any moment leaves a valid
header: with the old bitmaps, with the new ones, or with the bit cleared.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, replace

from qmon.block.qcow2.core import Core
from qmon.block.qcow2.header import (
    AUTOCLEAR_OFFSET,
    BASE,
    EXTENSION,
    FEATURES,
    SECTOR,
    VERSION_3,
    Autoclear,
    Extension,
)
from qmon.block.qcow2.writeout import WriteOut

FIELDS = struct.Struct(">IIQQ")
"""Number of bitmaps, 0, and the length and offset of their directory in bytes."""

_NEEDED = EXTENSION.size + FIELDS.size
_BACKING_NAME = struct.Struct(">QI")
_BACKING_NAME_OFFSET = 8
_HEADER_LENGTH = BASE.size + VERSION_3.size - 4


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the extensions are in the first cluster, in bytes."""

    found: int | None
    """Where the bitmaps extension begins."""
    end: int
    """Where the mark of the end begins."""


def set_valid(core: Core, out: WriteOut, *, valid: bool) -> None:
    """Set or clear the bit that says that the bitmaps are up to date. Raises OSError."""
    bits = core.header.autoclear & ~Autoclear.BITMAPS | (Autoclear.BITMAPS if valid else 0)
    if bits != core.header.autoclear:
        out.switch(AUTOCLEAR_OFFSET, FEATURES.pack(bits))
        core.header = replace(core.header, autoclear=bits)
    core.kept_autoclear = core.kept_autoclear & ~Autoclear.BITMAPS | bits & Autoclear.BITMAPS


def write_extension(core: Core, out: WriteOut, fields: bytes) -> None:
    """Make the header refer to a directory that is on stable storage. Raises OSError."""
    data = first_cluster(core)
    place = _find(data)
    if place.found is None:
        set_valid(core, out, valid=False)
        _append(core, out, data, place.end, fields)
    else:
        offset = place.found + EXTENSION.size
        if offset // SECTOR != (offset + len(fields) - 1) // SECTOR:
            set_valid(core, out, valid=False)
        out.switch(offset, fields)
    core.header = replace(core.header, bitmaps=fields)
    set_valid(core, out, valid=True)


def remove_extension(core: Core, out: WriteOut) -> None:
    """Make the header say that there are no bitmaps. Raises OSError."""
    set_valid(core, out, valid=False)
    data = first_cluster(core)
    place = _find(data)
    if place.found is not None:
        _, length = EXTENSION.unpack_from(data, place.found)
        after = place.found + EXTENSION.size + -(-length // 8) * 8
        out.switch(place.found, data[after : place.end] + EXTENSION.pack(Extension.END, 0))
    core.header = replace(core.header, bitmaps=None)


def _append(core: Core, out: WriteOut, data: bytes, end: int, fields: bytes) -> None:
    """Add the extension where the others end. The backing file's name, which follows, is moved first."""
    name_offset, name_length = _BACKING_NAME.unpack_from(data, _BACKING_NAME_OFFSET)
    needed_end = end + _NEEDED + EXTENSION.size
    room_end = len(data)
    if name_offset:
        moved = -(-max(needed_end, name_offset + name_length) // 8) * 8
        room_end = max(name_offset, moved)
        if name_offset < needed_end:
            if moved + name_length > len(data):
                raise _no_room()
            core.file.write(moved, data[name_offset : name_offset + name_length])
            out.sync()
            out.switch(_BACKING_NAME_OFFSET, struct.pack(">Q", moved))
    if needed_end > room_end:
        raise _no_room()
    core.file.write(end + EXTENSION.size, fields + EXTENSION.pack(Extension.END, 0))
    out.sync()
    out.switch(end, EXTENSION.pack(Extension.BITMAPS, len(fields)))


def _no_room() -> OSError:
    return OSError(errno.ENOSPC, "the image's header has no room for bitmaps: it needs larger clusters")


def end_of_extensions(data: bytes) -> int:
    """Return where the mark of the extensions' end begins in the first cluster."""
    return _find(data).end


def first_cluster(core: Core) -> bytes:
    """Return the bytes of the first cluster. Raises OSError."""
    data = bytearray(core.header.cluster_size)
    core.file.read_into(0, memoryview(data))
    return bytes(data)


def _find(data: bytes) -> _Place:
    (position,) = struct.unpack_from(">I", data, _HEADER_LENGTH)
    name_offset, _ = _BACKING_NAME.unpack_from(data, _BACKING_NAME_OFFSET)
    limit = name_offset or len(data)
    found = None
    while position + EXTENSION.size <= limit:
        kind, length = EXTENSION.unpack_from(data, position)
        if kind == Extension.END:
            break
        if kind == Extension.BITMAPS and found is None:
            found = position
        position += EXTENSION.size + -(-length // 8) * 8
    return _Place(found, position)
