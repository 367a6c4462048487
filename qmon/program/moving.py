"""The console of a QEMU whose guest is moved: it listens at the destination, and does not leave too early."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qmon.errors import CommandError, ConnectionLostError, ProblemsError, QmonError, reason
from qmon.hmp.commands.migrate_disks import LISTEN
from qmon.hmp.commands.migration_info import address_text
from qmon.hmp.migration_state import (
    POLL_SECONDS,
    Info,
    check_end,
    is_in_doubt,
    is_ours,
    is_under_way,
    moves_guest,
)
from qmon.hmp.migration_words import end, not_converging, where_guest_stays
from qmon.migration.wire.transport import DEFER
from qmon.notation.plain_text import in_one_line, one_line
from qmon.program.script_run import Life
from qmon.qmp.target import MIGRATE_DISKS, Event, Target, ask, well_formed

if TYPE_CHECKING:
    from qmon.remote.migration.target import MigratingTarget

NOTICE = "X_QMON_MIGRATION_NOTICE"
NO_TLS = "X_QMON_NO_TLS"
NOT_CONVERGING = "X_QMON_MIGRATION_NOT_CONVERGING"


async def listen(target: Target, uri: str) -> None:
    """Wait at ``uri`` for another console from now on. Raises ProblemsError with every reason against it."""
    if uri == DEFER:
        return
    try:
        await target.execute(LISTEN, {"uri": uri})
    except QmonError as error:
        reasons = [one_line(each) for each in str(error).split("\n") if each.strip()]
        raise ProblemsError([f"-incoming {uri}: {each}" for each in reasons]) from error


async def take_up(target: MigratingTarget) -> list[str]:
    """Take up a migration that an earlier console has left; return a line about it, [] if there is none.

    What it has to say before somebody listens becomes a line of that list, too, then and later.
    """
    lines: list[str] = []

    def hear(event: Event) -> None:
        if event.name == NOTICE:
            lines.append(one_line(str(event.data.get("message", ""))))

    target.subscribe(hear)
    try:
        line = await target.take_up()
    except CommandError as error:
        line = f"A migration that an earlier console has left here can't be taken up: {reason(error)}"
    if line:
        lines.insert(0, one_line(line))
    return lines


async def listening_lines(target: Target) -> list[str]:
    """Return where this console listens, and for what."""
    with well_formed():
        info = in_one_line(await ask(target, "query-migrate", {}))
        if is_ours(info) and not is_under_way(info):
            return [_waits_at(each, info) for each in info.get("socket-address", ())]
    return []


def _waits_at(address: Mapping[str, Any], info: Info) -> str:
    """Return what to type where the guest runs, or at a source of disks."""
    where = address_text(address)
    if moves_guest(info):
        return f"Waits at {where} for a guest: type 'migrate blk {_there(where)}' at its console"
    if info.get("status") == "postcopy-paused":
        return f"Waits at {where} for the source to continue: type 'migrate -r {_there(where)}' there"
    return f"Waits at {where} for disks: type 'migrate blk {_there(where)}' at the source"


def _there(address: str) -> str:
    """Return how the other host names an address on which this one listens."""
    host, _, port = address.removeprefix("tcp:").rpartition(":")
    is_every = address.startswith("tcp:") and host in ("0.0.0.0", "::", "[::]")
    return f"tcp:{socket.gethostname()}:{port}" if is_every else address


def tell_notices(target: Target) -> None:
    """Print what a migration has to say on stderr, for a script."""

    def hear(event: Event) -> None:
        if event.name in (NOTICE, NO_TLS):
            say(one_line(str(event.data.get("message", ""))))
        elif event.name == NOT_CONVERGING:
            for line in not_converging(in_one_line(dict(event.data))).splitlines():
                say(line)

    target.subscribe(hear)


class Stay:
    """What a script waits for behind its last line: a migration that needs this console."""

    def __init__(self, target: Target, life: Life, *, listens: bool, is_quiet: bool = False) -> None:
        self._target = target
        self._life = life
        self._listens = listens
        self._is_quiet = is_quiet

    async def wait(self) -> int:
        """Wait until no migration needs this console; return 1 if it has failed or was left alone, else 0."""
        if MIGRATE_DISKS not in self._target.commands():
            return 0
        try:
            return await self._wait()
        except ConnectionLostError as error:
            say(self._life.why_broken_off or reason(error))
            return 1
        except QmonError as error:
            say(f"the migration's state is not known: {reason(error)}")
            return 1

    async def _wait(self) -> int:
        info = await self._look()
        if not (self._holds(info) or (self._listens and "status" in info)):
            return 0
        if self._holds(info) and not (self._is_quiet or self._life.is_quitting):
            say(_WAITS[is_under_way(info)])
        while self._holds(info) and not self._life.is_quitting:
            await asyncio.sleep(POLL_SECONDS)
            info = await self._look()
        if self._holds(info):
            if why := self._life.why_broken_off:
                say(why)
                return 1
            if not is_under_way(info):
                return 0  # nobody has come
            say("the console leaves before the migration has ended: the guest stays at the source")
            return 1
        try:
            check_end(info)
        except QmonError as error:
            for line in filter(None, (reason(error), await where_guest_stays(self._target, info))):
                say(line)
            return 1
        if not self._is_quiet:
            for line in end(info):
                say(line)
        return 0

    def _holds(self, info: Info) -> bool:
        if not is_ours(info) or is_in_doubt(info):
            return False
        return is_under_way(info) or (self._listens and "status" not in info)

    async def _look(self) -> dict[str, Any]:
        with well_formed():
            return dict(in_one_line(await ask(self._target, "query-migrate", {})))


_WAITS = (
    "the script has ended: qmon waits for the migration that comes here, then ends",
    "the script has ended: qmon waits for the migration, then ends",
)
"""What is said before it comes, and while it is under way."""


def say(text: str) -> None:
    print(f"qmon: {text}", file=sys.stderr, flush=True)
