"""Compares data that is not copied: backing images and read-only drives must be equal on both sides.

An overlay on a different backing image is a different disk. So before any block is sent, the source sends
checksums of samples of its backing image, and the destination compares them with its own. The destination's
overlay must be empty. Read-only drives are compared in the same way.
"""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

import xxhash

from qmon.block.extents import visible_extents
from qmon.block.node import Kind, Node
from qmon.host.fdsets import real_name
from qmon.migration.compare import places
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.offer import BackingOffer, Sample
from qmon.notation.nbd_names import is_export

BLOCK = 64 << 10
SAMPLE_BLOCKS = 64
"""How many blocks of a large backing image are compared: 4 MiB are read in a few milliseconds."""

FULL_PIECES = 256
"""How many checksums cover a whole backing image; they tell where a difference is."""

EMPTYING_STEP = 1 << 30
_READ = 1 << 20
_ZEROS = bytes(BLOCK)
_PLACE = struct.Struct(">Q")

Pulse = Callable[[], None]
"""Called at least once per MiB read; an exception from it ends the work."""


def describe_backing(node: Node, verify: str, migration: UUID, pulse: Pulse) -> BackingOffer:
    """Return the size of an image and checksums of its samples. Raises OSError.

    ``verify`` is ``off``, ``sample`` or ``full``. The migration's id decides which samples are taken, so
    another attempt takes others.
    """
    ranges: Iterable[tuple[int, int]] = ()
    if verify == "full" or (verify == "sample" and node.size <= SAMPLE_BLOCKS * BLOCK):
        ranges = _all_pieces(node.size)
    elif verify == "sample":
        ranges = places(node, SAMPLE_BLOCKS, random.Random(migration.int))
    return BackingOffer(
        node.size,
        tuple(Sample(start, length, checksum(node, start, length, pulse)) for start, length in ranges),
    )


def backing_mismatch(name: str, node: Node | None, offered: BackingOffer, pulse: Pulse) -> str | None:
    """Compare the backing image ``node`` of drive ``name`` with the source's offer; return what is wrong.

    Raises OSError.
    """
    if node is None or node.size != offered.size:
        return f"the backing image of drive '{name}' has just changed its size at the destination: try again"
    sample = first_difference(node, offered, pulse)
    if sample is None:
        return None
    return (
        f"the backing image of drive '{name}' differs between the source and the destination, in the"
        f" {sample.length} bytes at {sample.offset}"
    )


def first_difference(node: Node, offered: BackingOffer, pulse: Pulse) -> Sample | None:
    """Return the first sample in which a node differs from the offer, None if all agree. Raises OSError."""
    for sample in offered.samples:
        if checksum(node, sample.offset, sample.length, pulse) != sample.checksum:
            return sample
    return None


def reads_as_zeros(node: Node, pulse: Pulse, offset: int = 0, length: int | None = None) -> bool:
    """Whether all of a node, or a range, reads as zeros. Stops at the first other byte. Raises OSError."""
    buffer = memoryview(bytearray(_READ))
    for extent in visible_extents(node, offset, node.size - offset if length is None else length):
        if extent.kind is not Kind.ZERO:
            for start in range(extent.offset, extent.end, _READ):
                piece = buffer[: min(_READ, extent.end - start)]
                node.read_into(start, piece)
                if any(not _ZEROS.startswith(piece[at : at + BLOCK]) for at in range(0, len(piece), BLOCK)):
                    return False
                pulse()
    return True


def overlay_mismatch(name: str, node: Node) -> str | None:
    """Return what is wrong if the overlay ``node`` of drive ``name`` has data of its own. Raises OSError."""
    for extent in node.extents(0, node.size):
        if extent.kind is not Kind.BACKING:
            return (
                f"the overlay of drive '{name}' is not empty at the destination (data at byte"
                f" {extent.offset}): an incremental copy needs an empty overlay"
            )
    return None


def checksum(node: Node, offset: int, length: int, pulse: Pulse) -> str:
    """Return the checksum of a range in bytes, in hexadecimal; ``offset`` is a multiple of BLOCK.

    Blocks of zeros are skipped: so holes need not be read, and both sides agree if only one has a hole.
    Raises OSError.
    """
    state = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_READ))
    position, end = offset, offset + length
    for extent in visible_extents(node, offset, length):
        if extent.kind is Kind.ZERO or extent.end <= position:
            continue
        position = max(position, extent.offset // BLOCK * BLOCK)
        stop = min(end, -(-extent.end // BLOCK) * BLOCK)
        while position < stop:
            piece = buffer[: min(_READ, stop - position)]
            node.read_into(position, piece)
            for start in range(0, len(piece), BLOCK):
                block = piece[start : start + BLOCK]
                if not _ZEROS.startswith(block):
                    state.update(_PLACE.pack(position + start))
                    state.update(block)
            position += len(piece)
            pulse()
    return state.hexdigest()


def _all_pieces(size: int) -> Iterator[tuple[int, int]]:
    step = max(1, -(-size // FULL_PIECES // BLOCK)) * BLOCK
    for start in range(0, size, step):
        yield start, min(step, size - start)


class Leftovers:
    """The overlays that hold only data of failed copies: a retry may empty them.

    The list is kept in memory only, because an image may change after this process has ended. If the file's
    identity, size or times change while the image is closed, somebody else has written to it: it is removed
    from the list.
    """

    def __init__(self) -> None:
        self._images: dict[str, tuple[int, ...] | None] = {}

    def opened(self, image: str) -> None:
        """Call when the image is open and locked; it may have been for long. Raises OSError."""
        if self._images.get(image) is not None:
            if self._images[image] == _identity(image):
                self._images[image] = None
            else:
                del self._images[image]

    def begun(self, image: str) -> None:
        """Call when a copy into the image begins; the image is open and empty."""
        self._images[image] = None

    def closed(self, image: str) -> None:
        """Call when the image has been closed. Raises OSError."""
        if image in self._images:
            del self._images[image]
            self._images[image] = _identity(image)

    def clear(self) -> None:
        """Call when the machine runs: from now on the images hold the guests' data."""
        self._images.clear()

    def are_in(self, image: str) -> bool:
        """Whether an open image holds only data of failed copies."""
        return image in self._images

    def would_be_emptied(self, image: str) -> bool:
        """Whether an image, open or closed, holds only data of failed copies. Raises OSError."""
        if image not in self._images:
            return False
        identity = self._images[image]
        return identity is None or identity == _identity(image)

    def empty(self, drive: MigratingDrive, pulse: Pulse) -> None:
        """Empty the overlay of an active drive, if it holds only leftovers. Raises OSError."""
        if self.are_in(drive.image):
            for start in range(0, drive.size, EMPTYING_STEP):
                drive.leave_to_backing(start, min(EMPTYING_STEP, drive.size - start))
                pulse()
            drive.node.flush()


def _identity(image: str) -> tuple[int, ...]:
    if is_export(image):  # nothing says who has written to it: it is never as it was
        return (time.monotonic_ns(),)
    status = os.stat(real_name(image))
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
