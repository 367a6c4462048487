"""Read-only drives in a full copy: the destination's image must be equal, or empty; then it is copied.

A read-only image with other contents is never overwritten. A drive that is writable at the destination is
copied like every other.
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
    """Return whether a drive that is read-only at the source must be copied to the destination's ``drive``.

    If so, the destination's image is open for writing on return. Raises OfferError if the image has other
    contents or can't be written, OSError.
    """
    if content is None or content.size != drive.size:
        raise OfferError(f"the source does not describe the contents of its read-only drive '{drive.id}'")
    if not drive.read_only:
        log.info("drive '%s' is read-only at the source and writable here", drive.id)
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
                f"read-only drive '{drive.id}' is empty at the destination, and its image can't be"
                f" written there: {reason(error)}: copy the source's image there, or make it writable"
            ) from error
        leftovers.begun(drive.image)
        return True
    if difference is None:
        log.warning("drive '%s' is read-only: its contents are not compared with the source's", drive.id)
        return False
    raise OfferError(
        f"read-only drive '{drive.id}' differs between the source and the destination, first in the"
        f" {difference.length} bytes at {difference.offset}: copy the source's image there, or give the"
        " destination an empty one of this size, which the migration fills"
    )
