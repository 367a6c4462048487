"""Read-only drives in a full copy: the destination's image must be equal, or empty; then it is copied.

A read-only image with other contents is never overwritten. A drive that is writable at the destination is
copied like every other.
"""

from __future__ import annotations

import enum
import logging

from qmon.block.node import Node
from qmon.errors import QmonError, reason
from qmon.migration.backing import Leftovers, Pulse, first_difference, reads_as_zeros
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.offer import BackingOffer, DriveOffer, OfferError
from qmon.migration.wire.stream import Kind, Record

log = logging.getLogger("qmon.migration")


class Finding(enum.Enum):
    """How a drive that is read-only at the source was found at the destination."""

    EQUAL = enum.auto()
    WRITABLE = enum.auto()
    """It is not read-only here: it is copied like every other."""
    EMPTY = enum.auto()
    """It holds nothing, and must be filled."""
    EMPTY_UNCOMPARED = enum.auto()
    """It holds nothing, and may be filled: the source's contents are not described."""
    UNCOMPARED = enum.auto()
    """It holds data, and the source's contents are not described."""


def find(
    drive: MigratingDrive, node: Node, content: BackingOffer | None, *, is_leftover: bool, pulse: Pulse
) -> Finding:
    """Compare the open image ``node`` of a drive with the source's ``content``.

    ``is_leftover`` says whether it holds only data of failed copies. Raises OfferError if it has other
    contents, OSError.
    """
    if content is None or content.size != node.size:
        raise OfferError(f"the source does not describe the contents of its read-only drive '{drive.id}'")
    if not drive.read_only:
        return Finding.WRITABLE
    difference = first_difference(node, content, pulse)
    if difference is None and content.samples:
        return Finding.EQUAL
    if is_leftover or reads_as_zeros(node, pulse):
        return Finding.EMPTY_UNCOMPARED if difference is None else Finding.EMPTY
    if difference is None:
        return Finding.UNCOMPARED
    raise OfferError(
        f"read-only drive '{drive.id}' differs between the source and the destination, first in the"
        f" {difference.length} bytes at {difference.offset}: copy the source's image there, or give the"
        " destination an empty one of this size, which the migration fills"
    )


def not_fillable(drive: MigratingDrive, why: str) -> OfferError:
    """Return the error of an empty image that can't be written."""
    return OfferError(
        f"read-only drive '{drive.id}' is empty at the destination, and its image can't be"
        f" written there: {why}: copy the source's image there, or make it writable"
    )


def not_in_stream(offered: DriveOffer) -> OfferError:
    """Return the error of an image that has to be filled, where the stream does not hold the source's."""
    named = f" '{offered.image}'" if offered.image else ""
    return OfferError(
        f"read-only drive '{offered.id}' would have to be filled here, and a stream of blk inc has only its"
        f" checksums: copy the source's image{named} here first, and open it read-only"
    )


def prove(drive: MigratingDrive, record: Record, pulse: Pulse) -> None:
    """Compare a read-only drive with DATA or ZERO of it. Raises QmonError if they differ, OSError."""
    if record.kind is Kind.ZERO:
        is_equal = reads_as_zeros(drive.node, pulse, record.offset, record.length)
    else:
        buffer = memoryview(bytearray(record.length))
        drive.node.read_into(record.offset, buffer)
        is_equal = buffer == record.payload
    if not is_equal:
        raise QmonError(
            f"read-only drive '{drive.id}' differs from the one in the stream, in the {record.length} bytes"
            f" at {record.offset}: give it an empty image of this size, which is filled"
        )


def must_be_copied(
    drive: MigratingDrive, content: BackingOffer | None, leftovers: Leftovers, pulse: Pulse
) -> bool:
    """Return whether a drive that is read-only at the source must be copied to the destination's ``drive``.

    If so, the destination's image is open for writing on return. Raises OfferError if the image has other
    contents or can't be written, OSError.
    """
    is_leftover = leftovers.are_in(drive.image)
    finding = find(drive, drive.node, content, is_leftover=is_leftover, pulse=pulse)
    match finding:
        case Finding.EQUAL:
            return False
        case Finding.WRITABLE:
            log.info("drive '%s' is read-only at the source and writable here", drive.id)
            return True
        case Finding.UNCOMPARED:
            log.warning("drive '%s' is read-only: its contents are not compared with the source's", drive.id)
            return False
    try:
        drive.open_to_fill()
    except OSError as error:
        if finding is Finding.EMPTY_UNCOMPARED:
            return False
        raise not_fillable(drive, reason(error)) from error
    leftovers.begun(drive.image)
    return True
