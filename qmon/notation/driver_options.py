"""The options of block drivers, and their valid values, as QEMU's drivers check them. Pure.

A value is a string, as in ``-drive``, or what JSON has: a boolean or a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qmon.errors import UsageError
from qmon.notation.keyval import parse_number, parse_size_option, parse_switch

Flat = Mapping[str, Any]
"""Options of a node and of those below it: ``{"driver": "qcow2", "file.filename": "a.qcow2"}``."""

FILE_DRIVERS = ("file", "host_device", "nbd")
FORMAT_DRIVERS = ("raw", "qcow2")
THROTTLE = "throttle"

OTHER_DRIVERS = frozenset(
    """
    blkdebug blklogwrites blkreplay blkverify bochs cloop compress copy-before-write copy-on-read dmg
    snapshot-access ftp ftps gluster host_cdrom http https io_uring iscsi luks nfs null-aio null-co nvme
    nvme-io_uring parallels preallocate qcow qed quorum rbd replication ssh sheepdog vdi vhdx
    virtio-blk-vfio-pci virtio-blk-vhost-user virtio-blk-vhost-vdpa vmdk vpc vvfat
    """.split()
)
"""QEMU's other drivers."""

_OVERLAP_PARTS = """
    main-header active-l1 active-l2 refcount-table refcount-block snapshot-table inactive-l1 inactive-l2
    bitmap-directory
""".split()
OVERLAP_CHECKS = ("none", "constant", "cached", "all")

_CHOICES = {
    "discard": (("ignore", "off", "unmap", "on"), "Invalid discard option"),
    "detect-zeroes": (("off", "on", "unmap"), "invalid parameter value: {}"),
    "locking": (("auto", "on", "off"), "invalid parameter value: {}"),
    "aio": (("threads", "native", "io_uring"), "invalid parameter value: {}"),
}
"""By option: the valid values, and QEMU's message about another one."""

SHARE = "force-share"

CACHE = ("cache.direct", "cache.no-flush")

COMMON = {
    "auto-read-only": "switch",
    "discard": "choice",
}
"""The options that every node has and that have no effect here, and the kinds of their values."""

DETECT_ZEROES = "detect-zeroes"

FILE = {
    "locking": "choice",
    "aio": "choice",
    "aio-max-batch": "number",
    "drop-cache": "switch",
    "pr-manager": "text",
    "x-check-cache-dropped": "switch",
}

QCOW2 = {
    "lazy-refcounts": "switch",
    "pass-discard-request": "switch",
    "pass-discard-snapshot": "switch",
    "pass-discard-other": "switch",
    "discard-no-unref": "switch",
    "overlap-check": "text",
    "overlap-check.template": "text",
    **{f"overlap-check.{part}": "switch" for part in _OVERLAP_PARTS},
    "cache-size": "size",
    "l2-cache-size": "size",
    "l2-cache-entry-size": "size",
    "refcount-cache-size": "size",
    "cache-clean-interval": "number",
}

_INTERVAL_MAX = (1 << 32) - 1
ENTRY_MIN = 512


def as_text(value: Any) -> str:
    """Return a scalar as it is written in an option string."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def check(name: str, value: Any, kind: str) -> Any:
    """Return the value of an option, converted to its kind. Raises UsageError with QEMU's message."""
    text = as_text(value)
    if kind == "choice":
        words, message = _CHOICES[name]
        if text not in words:
            raise UsageError(message.format(text))
        return text
    convert = _CONVERT.get(kind)
    return text if convert is None else convert(name, text)


_CONVERT: dict[str, Callable[[str, str], Any]] = {
    "switch": parse_switch,
    "number": parse_number,
    "size": parse_size_option,
}


def check_qcow2(given: Flat) -> dict[str, Any]:
    """Check the options of a qcow2 node; return their values. Raises UsageError with QEMU's message."""
    values = {name: check(name, value, QCOW2[name]) for name, value in given.items() if name in QCOW2}
    _check_caches(values)
    _check_overlap(values)
    return values


def check_image(values: Mapping[str, Any], cluster_size: int, version: int) -> None:
    """Check the values of options against their qcow2 image. Raises UsageError with QEMU's message."""
    entry = values.get("l2-cache-entry-size")
    if entry is not None and (entry & (entry - 1) or not ENTRY_MIN <= entry <= cluster_size):
        raise UsageError(
            f"L2 cache entry size must be a power of two between {ENTRY_MIN} and the cluster size"
            f" ({cluster_size})"
        )
    if values.get("lazy-refcounts") and version < 3:
        raise UsageError("Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level")


def _check_caches(values: Mapping[str, Any]) -> None:
    both, tables, counts = (
        values.get(name) for name in ("cache-size", "l2-cache-size", "refcount-cache-size")
    )
    if both is not None:
        if tables is not None and counts is not None:
            raise UsageError(
                "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time"
            )
        if tables is not None and tables > both:
            raise UsageError("l2-cache-size may not exceed cache-size")
        if counts is not None and counts > both:
            raise UsageError("refcount-cache-size may not exceed cache-size")
    if values.get("cache-clean-interval", 0) > _INTERVAL_MAX:
        raise UsageError("Cache clean interval too big")


def _check_overlap(values: Mapping[str, Any]) -> None:
    mode, template = values.get("overlap-check"), values.get("overlap-check.template")
    if mode is not None and template is not None and mode != template:
        raise UsageError(
            f"Conflicting values for qcow2 options 'overlap-check' ('{mode}') and 'overlap-check.template'"
            f" ('{template}')"
        )
    wanted = template if mode is None else mode
    if wanted is not None and wanted not in OVERLAP_CHECKS:
        raise UsageError(
            f"Unsupported value '{wanted}' for qcow2 option 'overlap-check'. Allowed are any of the"
            f" following: {', '.join(OVERLAP_CHECKS)}"
        )


def check_common(given: Flat, *, read_only: bool) -> None:
    """Check options that every node has with one another. Raises UsageError with QEMU's message."""
    kinds = {**COMMON, DETECT_ZEROES: "choice"}
    values = {name: check(name, given[name], kinds[name]) for name in kinds if name in given}
    if values.get("detect-zeroes") == "unmap" and values.get("discard") not in ("unmap", "on"):
        raise UsageError(
            "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap"
        )
    check_sharing(given, read_only=read_only)


def check_sharing(given: Flat, *, read_only: bool) -> None:
    """Raises UsageError if an image that is written is to be shared."""
    if check(SHARE, given.get(SHARE, False), "switch") and not read_only:
        raise UsageError("force-share=on can only be used with read-only images")


def refuse_driver(driver: str) -> UsageError:
    """Return the error about a driver that nodes here don't have."""
    if driver in OTHER_DRIVERS:
        known = ", ".join((*FILE_DRIVERS, *FORMAT_DRIVERS))
        return UsageError(f"driver '{driver}' is not supported: use {known} or {THROTTLE}")
    return UsageError(f"Unknown driver '{driver}'")
