"""Writes another name of the backing image into the header (QEMU, docs/interop/qcow2, "Header")."""

from __future__ import annotations

import errno
import struct
from dataclasses import replace

from qmon.block.qcow2.bitmaps_extension import end_of_extensions, first_cluster
from qmon.block.qcow2.core import Core
from qmon.block.qcow2.header import EXTENSION
from qmon.block.qcow2.writeout import WriteOut

_PLACE = struct.Struct(">QI")
_PLACE_OFFSET = 8
MAX_BYTES = 1023


def change_backing_name(core: Core, out: WriteOut, name: str) -> None:
    """Make the header name another backing image, of the same format; "" names none.

    A crash at any moment leaves the old name or the new one. Raises OSError.
    """
    encoded = name.encode()
    if len(encoded) > MAX_BYTES:
        raise OSError(errno.EINVAL, f"the name is longer than {MAX_BYTES} bytes")
    data = first_cluster(core)
    old_offset, old_length = _PLACE.unpack_from(data, _PLACE_OFFSET)
    free = end_of_extensions(data) + EXTENSION.size
    offset = 0
    if encoded:
        offset = free
        if old_offset and free + len(encoded) > old_offset:
            offset = max(free, -(-(old_offset + old_length) // 8) * 8)
        if offset + len(encoded) > len(data):
            raise OSError(
                errno.ENOSPC, "the image's header has no room for the name: it needs larger clusters"
            )
        core.file.write(offset, encoded)
        out.sync()
    out.switch(_PLACE_OFFSET, _PLACE.pack(offset, len(encoded)))
    core.header = replace(core.header, backing_file=name or None)
