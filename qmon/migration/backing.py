"""What a copy leaves out: whether both sides have it, and whether the destination has only that.

An overlay that arrives over another backing image is another disk. So the source says what its backing image
holds at some places, and the destination looks there before any block is sent; its overlay must hold nothing.
Read-only drives are compared in the same way.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

import xxhash

from qmon.block.extents import visible_extents
from qmon.block.node import Kind, Node
from qmon.migration.compare import places
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.offer import BackingOffer, OfferError, Sample

BLOCK = 64 << 10
SAMPLE_BLOCKS = 64
"""Blocks that are looked at in a large backing image: 4 MiB are read in a few milliseconds."""

FULL_PIECES = 256
"""Checksums of a whole backing image, for a difference to be told by where it is."""

EMPTYING_STEP = 1 << 30
_READ = 1 << 20
_ZEROS = bytes(BLOCK)
_PLACE = struct.Struct(">Q")

Pulse = Callable[[], None]
"""Called at least once for each MiB that is read; what it raises ends the work."""


def describe_backing(node: Node, verify: str, migration: UUID, pulse: Pulse) -> BackingOffer:
    """Say what backs an overlay, or what a read-only drive holds. Raises OSError.

    ``verify`` is ``off``, ``sample`` or ``full``. Which places are looked at depends on the migration's id,
    so that another attempt looks at others.
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


def check_backing(drive: MigratingDrive, offered: BackingOffer, pulse: Pulse) -> None:
    """Compare what backs an active drive with what was offered. Raises OfferError, OSError."""
    node = drive.node.backing
    if node is None or node.size != offered.size:
        raise OfferError(f"the backing image of drive '{drive.id}' was changed at the destination just now")
    sample = first_difference(node, offered, pulse)
    if sample is not None:
        raise OfferError(
            f"the backing image of drive '{drive.id}' holds something else at the source and at the"
            f" destination, in the {sample.length} bytes at {sample.offset}"
        )


def first_difference(node: Node, offered: BackingOffer, pulse: Pulse) -> Sample | None:
    """The first range in which a node holds something else than what was offered. Raises OSError."""
    for sample in offered.samples:
        if checksum(node, sample.offset, sample.length, pulse) != sample.checksum:
            return sample
    return None


def reads_as_zeros(node: Node, pulse: Pulse) -> bool:
    """Whether all of a node does; as much is read as it takes to know. Raises OSError."""
    buffer = memoryview(bytearray(_READ))
    for extent in visible_extents(node, 0, node.size):
        if extent.kind is not Kind.ZERO:
            for start in range(extent.offset, extent.end, _READ):
                piece = buffer[: min(_READ, extent.end - start)]
                node.read_into(start, piece)
                if any(not _ZEROS.startswith(piece[at : at + BLOCK]) for at in range(0, len(piece), BLOCK)):
                    return False
                pulse()
    return True


def check_empty(drive: MigratingDrive) -> None:
    """Raises OfferError for an active drive whose topmost image holds anything itself, OSError."""
    for extent in drive.node.extents(0, drive.size):
        if extent.kind is not Kind.BACKING:
            raise OfferError(
                f"the overlay of drive '{drive.id}' already holds something at the destination, at"
                f" {extent.offset}: an incremental copy needs an empty one"
            )


def checksum(node: Node, offset: int, length: int, pulse: Pulse) -> str:
    """Of what a range holds, in hexadecimal; the range begins at a multiple of BLOCK. Raises OSError.

    Blocks of zeros count for nothing, so that holes need not be read, and the other side may have none there.
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
    """The images that hold nothing but what copies left that failed here: a retry may empty them.

    Kept in memory only, since nobody can say what was done to an image after this process ended. While an
    image is closed, its file's identity, size and times must stay as they were, else it is another's work.
    """

    def __init__(self) -> None:
        self._images: dict[str, tuple[int, ...] | None] = {}

    def opened(self, image: str) -> None:
        """The image is open and locked, maybe since long. Raises OSError."""
        if self._images.get(image) is not None:
            if self._images[image] == _identity(image):
                self._images[image] = None
            else:
                del self._images[image]

    def begun(self, image: str) -> None:
        """A copy into the image begins; it is open and empty."""
        self._images[image] = None

    def closed(self, image: str) -> None:
        """The image has been closed. Raises OSError."""
        if image in self._images:
            del self._images[image]
            self._images[image] = _identity(image)

    def clear(self) -> None:
        """The machine runs: what is there is not left over any more."""
        self._images.clear()

    def are_in(self, image: str) -> bool:
        """Whether an image, which is open, holds nothing else."""
        return image in self._images

    def empty(self, drive: MigratingDrive, pulse: Pulse) -> None:
        """Leave all of an active drive to its backing image, if only leftovers are in it. Raises OSError."""
        if self.are_in(drive.image):
            for start in range(0, drive.size, EMPTYING_STEP):
                drive.leave_to_backing(start, min(EMPTYING_STEP, drive.size - start))
                pulse()
            drive.node.flush()


def _identity(image: str) -> tuple[int, ...]:
    status = os.stat(image)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
