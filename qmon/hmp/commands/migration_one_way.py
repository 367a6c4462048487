"""Migrations to a file, a command or a descriptor: what they overwrite, and who waits at their end."""

from __future__ import annotations

from qmon.hmp.commands.caution import confirm
from qmon.hmp.handlers import Call
from qmon.hmp.migration_state import Info, is_ours, moves_guest
from qmon.hmp.person import TakesWarnings
from qmon.notation.units import human_size

QUERY = "x-qmon-query-migrate-file"

_STAYS = "at the end this machine stays paused, and its guests wait until 'cont'"
_NOTICES = {
    "file:": f"A file can't answer: {_STAYS}",
    "exec:": f"If nothing answers there, {_STAYS}",
    "fd:": f"If nothing answers there, {_STAYS}",
}
"""By the address, what a person must know before such a migration ends."""


async def confirm_overwriting(call: Call) -> None:
    """Ask at a terminal before a file is lost. Raises LineError for a no, CommandError."""
    uri = call.text("uri")
    is_asked = call.person.interactive and call.has(QUERY) and not call.flag("resume")
    if not uri.startswith("file:") or not is_asked:
        return
    found = await call.execute(QUERY, {"uri": uri})
    if lost := found["lost"]:
        question = f"'{found['path']}' exists, and {human_size(lost)} in it are lost: overwrite it?"
        await confirm(call, question, "Nothing was migrated")


def tell_who_waits(call: Call, info: Info) -> None:
    """Say at the start what the end will be. A socket gets QEMU's answer alone."""
    notice = next((text for kind, text in _NOTICES.items() if call.text("uri").startswith(kind)), None)
    if notice is None or not is_ours(info) or moves_guest(info):
        return
    if call.person.interactive:
        call.print(notice)
    elif isinstance(call.person, TakesWarnings):
        call.person.warn(notice)
