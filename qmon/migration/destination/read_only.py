"""Read-only drives of a copy: the destination holds the same, or nothing, and then they are copied.

What somebody else put into a read-only image is never written over. A drive that is writable at the
destination is copied like every other.
"""

from __future__ import annotations

import logging

from qmon.errors import reason
from qmon.migration.backing import Leftovers, Pulse, first_difference, reads_as_zeros
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.offer import BackingOffer, OfferError

log = logging.getLogger("qmon.migration")


def must_travel(
    drive: MigratingDrive, content: BackingOffer | None, leftovers: Leftovers, pulse: Pulse
) -> bool:
    """Whether a drive that is read-only at the source has to be copied into the destination's, an active one.

    If so, its image is open for writing on return. Raises OfferError for an image that can't become the
    source's, OSError.
    """
    if content is None or content.size != drive.size:
        raise OfferError(f"the source does not say what its read-only drive '{drive.id}' holds")
    if not drive.read_only:
        log.info("drive '%s' is read-only at the source, and writable here", drive.id)
        return True
    difference = first_difference(drive.node, content, pulse)
    if difference is None and content.samples:
        return False
    if leftovers.are_in(drive.image) or reads_as_zeros(drive.node, pulse):
        try:
            drive.open_to_fill()
        except OSError as error:
            if difference is None:
                return False
            raise OfferError(
                f"read-only drive '{drive.id}' holds nothing at the destination, and its image can't be"
                f" written there: {reason(error)}: copy the source's image there, or make it writable"
            ) from error
        leftovers.begun(drive.image)
        return True
    if difference is None:
        log.warning("drive '%s' is read-only: what it holds is not compared with the source's", drive.id)
        return False
    raise OfferError(
        f"read-only drive '{drive.id}' holds something else at the source and at the destination, first in"
        f" the {difference.length} bytes at {difference.offset}: copy the source's image there, or give the"
        " destination an empty one of this size, which is filled"
    )
