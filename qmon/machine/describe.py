"""Describes devices, nodes, images and their statistics for QMP (QAPI: block-core.json)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from qmon.block.accounts import FIGURES, Accounts
from qmon.block.bitmaps import DirtyBitmap
from qmon.block.layers import filter_name, shown_name
from qmon.block.throttle import RATES
from qmon.machine.device import Device
from qmon.machine.drive import Drive
from qmon.machine.images import allocated_size, backing_fields, file_sizes, image_info
from qmon.notation.nbd_names import NBD

NO_BACKING: Mapping[str, Any] = {"backing_file_depth": 0}

_NEVER_COUNTED = {
    "rd_merged": 0,
    "wr_merged": 0,
    "unmap_merged": 0,
    "invalid_rd_operations": 0,
    "invalid_wr_operations": 0,
    "invalid_flush_operations": 0,
    "invalid_unmap_operations": 0,
    "wr_highest_offset": 0,
    "timed_stats": [],
}


def block_info(device: Device, drive: Drive | None) -> dict[str, Any]:
    """Return a BlockInfo; ``drive`` is None if the device is empty."""
    info: dict[str, Any] = {"device": device.name, "type": "unknown", "removable": True, "locked": False}
    if drive is not None:
        info["inserted"] = node_info(drive, throttled=True)
    return info


def node_info(drive: Drive, *, throttled: bool = False) -> dict[str, Any]:
    """Return a BlockDeviceInfo of the topmost node; ``throttled`` adds the limits, which are the device's."""
    limits = asdict(drive.guest.device.throttle.limits)
    info = nodes_of(drive, 0)[0]
    if throttled and drive.guest.device.throttle.limits:
        info.update({name: limits[name] for name in RATES})
        for name in RATES:
            if limits[f"{name}_max"]:
                info.update({each: limits[each] for each in (f"{name}_max", f"{name}_max_length")})
        if limits["iops_size"]:
            info["iops_size"] = limits["iops_size"]
        info["group"] = drive.guest.device.throttle.group
    return info


def nodes_of(drive: Drive, number: int) -> list[dict[str, Any]]:
    """Return a BlockDeviceInfo of each node of a layer: the format node and the file node of the image."""
    file = _file_node(drive, number)
    nodes = [file] if drive.names.is_bare(number) else [_format_node(drive, number), file]
    if bitmaps := [_bitmap_info(each) for each in drive.bitmaps(number)]:
        nodes[0]["dirty-bitmaps"] = bitmaps
    return [_filter_node(drive, nodes[0]), *nodes] if drive.chain.has_filter and not number else nodes


def _format_node(drive: Drive, number: int) -> dict[str, Any]:
    layers = drive.layers[number:]
    image = image_info(layers, None if number else drive.size)
    info = _node(
        shown_name(layers), drive.names.pairs[number][0], layers[0].format, image, backing_fields(layers)
    )
    detects = drive.settings.detect_zeroes if number == 0 else "off"
    threshold = drive.stack.threshold(info["node-name"])
    return {**info, **_access(drive, number), "detect_zeroes": detects, "write_threshold": threshold}


def _filter_node(drive: Drive, below: dict[str, Any]) -> dict[str, Any]:
    """Return the throttle filter's node on top of the node ``below``."""
    name = filter_name(drive.layers, drive.settings.group or "", is_bare=drive.names.is_bare(0))
    image = {
        "filename": name,
        "format": "throttle",
        "virtual-size": drive.size,
        "dirty-flag": below["image"]["dirty-flag"],
        "backing-image": below["image"],
    }
    for field in ("actual-size", "cluster-size"):
        if field in below["image"]:
            image[field] = below["image"][field]
    info = _node(name, drive.id, "throttle", image)
    return {**info, "ro": drive.read_only, "backing_file_depth": below["backing_file_depth"] + 1}


def _bitmap_info(bitmap: DirtyBitmap) -> dict[str, Any]:
    """Return a BlockDirtyInfo."""
    info: dict[str, Any] = {
        "name": bitmap.name,
        "count": bitmap.count,
        "granularity": bitmap.granularity,
        "recording": bitmap.recording,
        "busy": bitmap.busy,
        "persistent": bitmap.persistent,
    }
    return {**info, "inconsistent": True} if bitmap.inconsistent else info


def _file_node(drive: Drive, number: int) -> dict[str, Any]:
    layer = drive.layers[number]
    file = layer.name or layer.file
    size, _ = file_sizes(layer.file)
    image = {
        "filename": file,
        "format": layer.file_driver,
        "virtual-size": layer.device_size or -(-size // 512) * 512,
        **allocated_size(layer.file),
        "dirty-flag": False,
    }
    info = _node(file, drive.names.pairs[number][1], layer.file_driver, image)
    access = _access(drive, number, is_file=True)
    return {**info, **access, "write_threshold": drive.stack.threshold(info["node-name"])}


def _access(drive: Drive, number: int, *, is_file: bool = False) -> dict[str, Any]:
    """Return how a layer's node is used, that of the format or the one below it."""
    caching = drive.chain.caching(number)
    if is_file:
        caching = caching.of_file
    writeback = number > 0 or drive.settings.caching.writeback
    cache = {"writeback": writeback, "direct": caching.direct, "no-flush": caching.no_flush}
    return {"ro": drive.read_only or number > 0, "cache": cache}


def _node(
    file: str, name: str, driver: str, image: dict[str, Any], backing: Mapping[str, Any] = NO_BACKING
) -> dict[str, Any]:
    return {
        "file": file,
        "node-name": name,
        "drv": driver,
        **backing,
        "encrypted": False,
        "detect_zeroes": "off",
        **dict.fromkeys(RATES, 0),
        "write_threshold": 0,
        "cache": {"writeback": True, "direct": False, "no-flush": False},
        "image": image,
    }


def device_stats(device: Device, drive: Drive | None) -> dict[str, Any]:
    """Return the BlockStats of a device and its nodes; ``drive`` is None if the device is empty."""
    entry: dict[str, Any] = {} if drive is None else _layer_stats(drive, 0, with_backing=True)
    return {**entry, "device": device.name, "stats": _stats(device.accounts)}


def node_stats(drive: Drive, number: int) -> list[dict[str, Any]]:
    """Return the BlockStats of each node of a layer, in the order of ``nodes_of``."""
    file = _file_stats(drive, number)
    stats = [file] if drive.names.is_bare(number) else [_layer_stats(drive, number, with_backing=False), file]
    top = {"node-name": drive.id, "stats": _stats()}
    return [top, *stats] if drive.chain.has_filter and not number else stats


def _layer_stats(drive: Drive, number: int, *, with_backing: bool) -> dict[str, Any]:
    entry = {
        "node-name": drive.names.pairs[number][0],
        "stats": _stats(),
        "parent": _file_stats(drive, number),
    }
    if with_backing and number + 1 < len(drive.layers):
        entry["backing"] = _layer_stats(drive, number + 1, with_backing=True)
    return entry


def _file_stats(drive: Drive, number: int) -> dict[str, Any]:
    discards = drive.discards(number)
    entry = {"node-name": drive.names.pairs[number][1], "stats": _stats()}
    if drive.layers[number].file_driver == NBD:
        return entry
    return {
        **entry,
        "driver-specific": {
            "driver": drive.layers[number].file_driver,
            "discard-nb-ok": discards.done,
            "discard-nb-failed": discards.failed,
            "discard-bytes-ok": discards.done_bytes,
        },
    }


def _stats(accounts: Accounts | None = None) -> dict[str, Any]:
    """Return a BlockDeviceStats; ``accounts`` is None for a node, whose figures are all 0."""
    total = None if accounts is None else accounts.total()
    figures: dict[str, Any] = {name: 0 if total is None else getattr(total, name) for name in FIGURES}
    if total is not None and total.last_ns:
        figures["idle_time_ns"] = max(0, time.monotonic_ns() - total.last_ns)
    counts_failures = accounts is not None
    return {
        **figures,
        **_NEVER_COUNTED,
        "account_invalid": counts_failures,
        "account_failed": counts_failures,
    }
