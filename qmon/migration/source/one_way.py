"""What is different in a stream that nobody answers: what it holds, and which settings have no effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qmon.migration.drive import MigratingDrive
from qmon.migration.parameters import CopyMode, Parameters
from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.guests import ONLY_MARKED
from qmon.migration.wire.offer import Mode, Offer


def read_only_copies(offer: Offer, drives: Sequence[MigratingDrive]) -> list[DriveCopy]:
    """Return the copies of the read-only drives, which a reader without them can't ask for."""
    return [
        DriveCopy(index, drives[index])
        for index, offered in enumerate(offer.drives)
        if offered.content is not None
    ]


def lacks(offer: Offer, parameters: Parameters) -> Iterator[str]:
    """Yield a sentence for each setting that has no effect, and each drive that is not in the stream."""
    if offer.recover:
        yield "x-qmon-recover has no effect where nobody answers: if the stream breaks, the migration fails"
    if offer.is_copy and parameters.copy_mode is CopyMode.WRITE_BLOCKING:
        yield ONLY_MARKED
    for drive in offer.drives:
        if offer.mode is Mode.INCREMENTAL and drive.read_only:
            yield (
                f"read-only drive '{drive.id}' is not in a stream of blk inc, only its checksums: to read it,"
                f" the image '{drive.image}' must be there"
            )
