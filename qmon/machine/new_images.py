"""What ``blockdev-create`` makes: a file, or a qcow2 image in a file or node (QAPI: BlockdevCreateOptions).

The checks and their messages are QEMU's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qmon.block.image_file import ImageFile
from qmon.block.new_file import Storage, create_file, write_zeros
from qmon.block.qcow2.create import Place, write_image
from qmon.block.qcow2.header import (
    MAX_CLUSTER_BITS,
    MAX_L1_BYTES,
    MIN_CLUSTER_BITS,
    SECTOR,
    Compression,
    l1_entries_for,
)
from qmon.block.qcow2.layout import NewImage, header_bytes, layout_of
from qmon.errors import CommandError, reason
from qmon.notation.units import INT64_MAX

MAX_SIZE = (1 << 63) - (1 << 30)
"""The largest disk of QEMU (BDRV_MAX_LENGTH)."""

_NEWER = " with compatibility level 1.1 and above (use version=v3 or greater)"

Check = Callable[[], None]
"""Called often; what it raises ends the work."""

Options = Mapping[str, Any]


def new_file(options: Options, check: Check) -> None:
    """Create a file (BlockdevCreateOptionsFile). Blocks. Raises OSError, and what ``check`` raises.

    The hints ``nocow`` and ``extent-size-hint`` have no effect.
    """
    size = options["size"]
    create_file(options["filename"], size if size <= INT64_MAX else -1, _storage(options), check)


def _storage(options: Options) -> Storage:
    return Storage(options.get("preallocation", "off"))


def qcow2_image(options: Options) -> NewImage:
    """Return the image that a BlockdevCreateOptionsQcow2 describes. Raises CommandError."""
    for message in _objections(options):
        raise CommandError(message)
    return NewImage(
        options["size"],
        options.get("backing-file", ""),
        options.get("backing-fmt", ""),
        version=_version(options),
        cluster_bits=options.get("cluster-size", 1 << 16).bit_length() - 1,
        refcount_order=options.get("refcount-bits", 16).bit_length() - 1,
        lazy_refcounts=options.get("lazy-refcounts", False),
        compression=Compression[options.get("compression-type", "zlib").upper()],
        is_preallocated=_storage(options) is not Storage.OFF,
    )


def _version(options: Options) -> int:
    return 2 if options.get("version") == "v2" else 3


def _objections(options: Options) -> Iterator[str]:
    """Yield what is wrong, in QEMU's order; then what only qmon can't do."""
    is_old = _version(options) < 3
    cluster, bits = options.get("cluster-size", 1 << 16), options.get("refcount-bits", 16)
    is_extended, has_backing = bool(options.get("extended-l2")), "backing-file" in options
    if options["size"] % SECTOR:
        yield f"Image size must be a multiple of {SECTOR} bytes"
    if is_old and "data-file" in options:
        yield f"External data files are only supported{_NEWER}"
    if not (_is_power(cluster) and 1 << MIN_CLUSTER_BITS <= cluster <= 1 << MAX_CLUSTER_BITS):
        least, most = 1 << MIN_CLUSTER_BITS, (1 << MAX_CLUSTER_BITS) >> 10
        yield f"Cluster size must be a power of two between {least} and {most}k"
    if is_extended and cluster < 1 << 14:
        yield "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes"
    if is_extended and is_old:
        yield f"Extended L2 entries are only supported{_NEWER}"
    if has_backing and _storage(options) is not Storage.OFF and not is_extended:
        yield "Backing file and preallocation can only be used at the same time if extended_l2 is on"
    if "backing-fmt" in options and not has_backing:
        yield "Backing format cannot be used without backing file"
    if is_old and options.get("lazy-refcounts"):
        yield f"Lazy refcounts only supported{_NEWER}"
    if not (_is_power(bits) and bits <= 64):
        yield "Refcount width must be a power of two and may not exceed 64 bits"
    if is_old and bits != 16:
        yield (
            "Different refcount widths than 16 bits require compatibility level 1.1 or above"
            " (use version=v3 or greater)"
        )
    if options.get("data-file-raw") and "data-file" not in options:
        yield "data-file-raw requires data-file"
    if is_old and options.get("compression-type", "zlib") != "zlib":
        yield f"Non-zlib compression type is only supported{_NEWER}"
    for name in ("extended-l2", "data-file", "encrypt"):
        if options.get(name):
            yield f"qcow2: '{name}' is not supported for a new image"


def _is_power(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def check_image(image: NewImage) -> None:
    """Raises CommandError if the size is too large for the clusters, or the backing file's name too long."""
    if image.size > MAX_SIZE:
        raise CommandError(f"Could not resize image: offset({image.size}) exceeds maximum({MAX_SIZE})")
    if l1_entries_for(image.size, image.cluster_bits) * 8 > MAX_L1_BYTES:
        raise CommandError("Could not resize image: Failed to grow the L1 table: File too large")
    layout = layout_of(image)
    try:
        header_bytes(image, layout)
    except OSError as error:
        name, format = image.backing_file, image.backing_format or "(null)"
        raise CommandError(
            f"Could not assign backing file '{name}' with format '{format}': {reason(error)}"
        ) from error


def fill_place(place: Place, file: ImageFile, options: Options, image: NewImage, check: Check) -> None:
    """Write an image to a place whose bytes are in ``file``, at the same offsets. Blocks.

    Raises CommandError, and what ``check`` raises.
    """

    def reserve(offset: int, length: int) -> None:
        if _storage(options) is Storage.FALLOC:
            file.allocate(offset, length)
        elif _storage(options) is Storage.FULL:
            write_zeros(place, offset, length, check)

    check_image(image)
    try:
        write_image(place, image, fill=reserve, check=check)
    except OSError as error:
        raise CommandError(f"Could not write the image: {reason(error)}") from error
