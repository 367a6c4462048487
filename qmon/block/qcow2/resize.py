"""Changes the virtual size of a qcow2 image. No other request may use the image meanwhile."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace

from qmon.block.qcow2.core import Core
from qmon.block.qcow2.entries import CODEC_64
from qmon.block.qcow2.header import MAX_L1_BYTES, RESIZE_FIELDS, SECTOR, SIZE_OFFSET, l1_entries_for
from qmon.block.qcow2.refcounts import Refcounts
from qmon.block.qcow2.writeout import WriteOut
from qmon.block.qcow2.writer import Writer
from qmon.errors import reason

log = logging.getLogger("qmon.qcow2")


def resize(core: Core, refcounts: Refcounts, out: WriteOut, writer: Writer, size: int) -> None:
    """Set the disk's size to ``size`` bytes; a new part reads as zeros. Raises OSError."""
    if size % SECTOR:
        raise OSError(errno.EINVAL, f"The new size must be a multiple of {SECTOR}")
    if core.header.version < 3 and core.snapshots:
        raise OSError(errno.ENOTSUP, "Can't resize a v2 image which has snapshots")
    if core.header.is_raw_outside:
        raise OSError(errno.ENOTSUP, "Can't resize an image with a raw external data file")
    entries = l1_entries_for(size, core.header.cluster_bits)
    if entries * 8 > MAX_L1_BYTES:
        raise OSError(errno.EFBIG, f"Failed to grow the L1 table: {os.strerror(errno.EFBIG)}")
    writer.before_change()
    out.flush()
    if size > core.size:
        if entries > len(core.mapping.l1):
            _move_l1(core, refcounts, out, entries)
        _clear(core, writer, core.size, size)
        out.flush()
        _write_fields(core, out, size)
    elif size < core.size:
        bits = core.header.cluster_bits
        end = -(-core.size >> bits)
        _write_fields(core, out, size)
        try:
            writer.drop(-(-size >> bits), end)
            out.flush()
        except OSError as error:  # the new size is in effect; growing it again frees the rest
            log.error(
                "image '%s': not all clusters past its new end were freed: %s",
                core.file.path,
                reason(error),
            )


def _clear(core: Core, writer: Writer, start: int, end: int) -> None:
    """Make a range past the disk's end read as zeros: clusters of a former, larger size may be there."""
    bits = core.header.cluster_bits
    first = -(-start >> bits)
    if start < min(end, first << bits):
        writer.zero(start, min(end, first << bits) - start, unmap=True)
    writer.drop(first, -(-end >> bits))
    if core.backing is not None:
        hidden_end = -(-min(end, core.backing.size) >> bits) << bits
        if hidden_end > first << bits:
            writer.zero(first << bits, hidden_end - (first << bits), unmap=True)


def _move_l1(core: Core, refcounts: Refcounts, out: WriteOut, entries: int) -> None:
    """Allocate a longer L1 table, copy the entries, and switch the header to it."""
    mapping, header, file = core.mapping, core.header, core.file
    with core.lock:
        start, _ = refcounts.allocate_table(-(-entries * 8 // header.cluster_size))
    out.flush()  # its counts must be in the file before it is used
    grown = mapping.l1[:]
    grown.extend(CODEC_64.empty(entries - len(grown)))
    file.write(start * header.cluster_size, CODEC_64.encode(grown))
    out.sync()
    old = range(mapping.l1_offset, mapping.l1_offset + len(mapping.l1) * 8, header.cluster_size)
    with core.lock:
        mapping.l1, mapping.l1_offset = grown, start * header.cluster_size
        core.header = replace(header, l1_entries=entries, l1_offset=mapping.l1_offset)
    _write_fields(core, out, core.size)
    with core.lock:
        for offset in old:
            out.give_up(offset // header.cluster_size)


def _write_fields(core: Core, out: WriteOut, size: int) -> None:
    header = replace(core.header, size=size)
    out.switch(SIZE_OFFSET, RESIZE_FIELDS.pack(size, 0, header.l1_entries, header.l1_offset))
    core.header, core.size = header, size
