"""The objects that a QEMU was given with ``-object`` or ``object-add``."""

from __future__ import annotations

from qmon.errors import CommandError, DeviceNotFoundError
from qmon.qmp.target import Target, ask, well_formed


async def object_names(target: Target) -> list[str]:
    """Return their ids. Raises CommandError."""
    try:
        rows = await ask(target, "qom-list", [], {"path": "/objects"})
    except CommandError as error:
        if error.error_class != DeviceNotFoundError.error_class:
            raise
        return []  # QEMU 7.2 has no such folder before the first object
    with well_formed():
        return [row["name"] for row in rows]
