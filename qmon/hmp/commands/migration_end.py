"""The end of a migration that a line has waited for."""

from __future__ import annotations

from qmon.errors import CommandError
from qmon.hmp.handlers import Call
from qmon.hmp.migration_state import Info, check_end
from qmon.hmp.migration_words import where_guest_stays


async def told_end(call: Call, info: Info) -> None:
    """Raises CommandError if the migration has not succeeded, with a hint where a QEMU's guest is."""
    try:
        check_end(info)
    except CommandError:
        call.hint(await where_guest_stays(call.monitor.line_target, info))
        raise
