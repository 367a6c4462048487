"""Describes the images of a chain for QMP (QAPI: block-core.json, ImageInfo)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from qmon.block.backing_names import full_backing_name
from qmon.block.layers import Layer, shown_name
from qmon.block.qcow2.bitmaps import Bitmap, Flag
from qmon.block.qcow2.header import Compatible, Header, Incompatible
from qmon.block.qcow2.snapshots import Snapshot
from qmon.host.fdsets import real_name
from qmon.notation.nbd_names import is_export


def file_sizes(path: str) -> tuple[int, int]:
    """Return a file's length and allocated size in bytes; zeros if it was moved or removed."""
    try:
        found = os.stat(real_name(path))
    except OSError:
        return 0, 0
    return found.st_size, found.st_blocks * 512


def allocated_size(path: str) -> dict[str, int]:
    """Return the field of an ImageInfo about a file's allocated size; none for an export."""
    return {} if is_export(path) else {"actual-size": file_sizes(path)[1]}


def image_info(layers: Sequence[Layer], size: int | None = None) -> dict[str, Any]:
    """Return an ImageInfo of the first layer and its backing images; ``size`` is its size now, in bytes."""
    top = layers[0]
    info: dict[str, Any] = {
        "filename": shown_name(layers),
        "format": top.file_driver if top.is_bare else top.format,
        "virtual-size": top.size if size is None else size,
        **allocated_size(top.file),
        "dirty-flag": False,
    }
    if top.header is not None:
        info.update(_of_header(top.header, top.bitmaps))
    if top.snapshots:
        info["snapshots"] = [snapshot_info(each) for each in top.snapshots]
    if top.header is not None and top.header.backing_file is not None:
        info["backing-filename"] = top.header.backing_file
        info["full-backing-filename"] = full_backing_name(top.file, top.header.backing_file)
        if top.header.backing_format is not None:
            info["backing-filename-format"] = top.header.backing_format
    if len(layers) > 1:
        info["backing-image"] = image_info(layers[1:])
    return info


def _of_header(header: Header, bitmaps: Sequence[Bitmap]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "compat": "0.10" if header.version == 2 else "1.1",
        "compression-type": header.compression.name.lower(),
    }
    if header.version >= 3:
        data["lazy-refcounts"] = bool(header.compatible & Compatible.LAZY_REFCOUNTS)
    if bitmaps:
        data["bitmaps"] = [_bitmap_info(each) for each in bitmaps]
    data["refcount-bits"] = 1 << header.refcount_order
    if header.data_file is not None:
        data["data-file"] = header.data_file
        data["data-file-raw"] = header.is_raw_outside
    if header.version >= 3:
        data["corrupt"] = header.is_corrupt
        data["extended-l2"] = bool(header.incompatible & Incompatible.EXTENDED_L2)
    return {
        "cluster-size": header.cluster_size,
        "dirty-flag": header.is_dirty,
        "format-specific": {"type": "qcow2", "data": data},
    }


def _bitmap_info(bitmap: Bitmap) -> dict[str, Any]:
    """Return a Qcow2BitmapInfo."""
    flags = {Flag.IN_USE: "in-use", Flag.AUTO: "auto"}
    return {
        "flags": [name for flag, name in flags.items() if bitmap.flags & flag],
        "name": bitmap.shown_name,
        "granularity": 1 << bitmap.granularity_bits,
    }


def snapshot_info(snapshot: Snapshot) -> dict[str, Any]:
    """Return a SnapshotInfo."""
    info: dict[str, Any] = {
        "id": snapshot.id,
        "name": snapshot.name,
        "vm-state-size": snapshot.vm_state_bytes,
        "date-sec": snapshot.seconds,
        "date-nsec": snapshot.nanoseconds,
        "vm-clock-sec": snapshot.vm_clock_nanoseconds // 1_000_000_000,
        "vm-clock-nsec": snapshot.vm_clock_nanoseconds % 1_000_000_000,
    }
    if snapshot.icount is not None:
        info["icount"] = snapshot.icount
    return info


def backing_fields(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return the fields of a BlockDeviceInfo about the backing images of the first layer."""
    fields: dict[str, Any] = {} if len(layers) < 2 else {"backing_file": shown_name(layers[1:])}
    fields["backing_file_depth"] = len(layers) - 1
    return fields
