"""The channels of a migration, by the capability multifd and its parameters."""

from __future__ import annotations

import logging

from qmon.errors import CommandError
from qmon.migration.capabilities import Capabilities
from qmon.migration.parameters import CopyMode, Parameters
from qmon.migration.source.channels import Wanted
from qmon.migration.source.guests import ONLY_MARKED
from qmon.migration.wire.packing import why_not
from qmon.migration.wire.transport import Place
from qmon.notation.address import InetAddress, UnixAddress

log = logging.getLogger("qmon.machine")

MOST_LEVEL = {"none": 0, "zlib": 9, "zstd": 19}


def wanted_channels(capabilities: Capabilities, parameters: Parameters, place: Place) -> Wanted | None:
    """Return the channels of an outgoing migration, None without multifd. Raises CommandError."""
    if not capabilities["multifd"]:
        return None
    if not isinstance(place, InetAddress | UnixAddress):
        raise CommandError("Migration requires multi-channel URIs (e.g. tcp)")
    for name, why in (("x-qmon-recover", "resumes one connection"),):
        if capabilities[name]:
            raise CommandError(f"multifd is not possible with {name}, which {why}: turn one of them off")
    if parameters.copy_mode is CopyMode.WRITE_BLOCKING:
        log.warning("migration: %s", ONLY_MARKED)
    packing = str(parameters["multifd-compression"])
    if (reason := why_not(packing)) is not None:
        raise CommandError(reason)
    level = 0 if packing == "none" else int(parameters[f"multifd-{packing}-level"])
    return Wanted(int(parameters["multifd-channels"]), packing, min(level, MOST_LEVEL[packing]))
