"""What both sides of a migration have: a phase, a record in the QEMU, and what their consoles are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qmon.remote.migration.phases import Phase
from qmon.remote.migration.qemu import Qemu
from qmon.remote.migration.recovery.leftovers import stop_server
from qmon.remote.migration.recovery.record import (
    Record,
    remove_record,
    this_console,
    write_record,
)
from qmon.remote.migration.security import TLS_CREDS

NOTICE = "X_QMON_MIGRATION_NOTICE"
"""The private event of a line for the person: ``message``."""

Emit = Callable[[str, dict[str, Any]], None]


class Side:
    """One side; ``emit`` passes on a private event for the console."""

    def __init__(self, qemu: Qemu, emit: Emit, side: str) -> None:
        self.qemu = qemu
        self.reason = ""
        """Why it has failed, or what is in doubt."""
        self.changed = asyncio.Event()
        """Set at each change of the phase."""
        self._emit = emit
        self._side = side
        self._told = ""
        self.record: Record | None = None
        self._is_recorded = False
        """Whether the record is known to be in the QEMU."""

    def notice(self, message: str) -> None:
        """Tell the person."""
        self._emit(NOTICE, {"message": message})

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """Pass on a private event."""
        self._emit(event, data)

    def tell_phase(self, phase: Phase) -> None:
        """Tell the person's console of a change of the status."""
        self.changed.set()
        self.changed = asyncio.Event()
        if phase.status != self._told:
            self._told = phase.status
            self._emit("MIGRATION", {"status": phase.status, "x-qmon-waits": False})

    async def write_record(self, id_: str, peer: str, phase: str, *, runs: bool) -> None:
        """Keep the phase in the QEMU. Raises CommandError."""
        if self.record is None:
            self.record = Record(id_, self._side, peer, phase, runs, console=this_console())
        self.record.phase, self.record.runs = phase, runs
        await self.keep_record()

    async def keep_record(self) -> None:
        """Keep the record as it is now in the QEMU. Raises CommandError."""
        if self.record is not None:
            await write_record(self.qemu.remote, self.record, is_there=self._is_recorded)
            self._is_recorded = True

    async def hold(self) -> None:
        """Have a QEMU that waits for a guest not run it by itself. Raises CommandError."""
        assert self.record is not None
        self.record.is_held = not _starts_stopped(self.qemu.remote.peer_pid)
        await self.keep_record()
        await self.qemu("stop")

    async def let_go(self) -> None:
        """Undo ``hold``, if the guest has not come. Raises CommandError."""
        if self.record is not None and self.record.is_held and await self.qemu.run_state() == "inmigrate":
            await self.qemu("cont")  # which does no more there than to undo ``stop``

    async def set_up(self, wanted: dict[str, bool]) -> None:
        """Set capabilities; those that differed are recorded first. Raises CommandError."""
        assert self.record is not None
        self.record.capabilities = await self.qemu.differing(wanted)
        parameters = await self.qemu("query-migrate-parameters")
        if creds := parameters.get(TLS_CREDS):
            self.record.parameters[TLS_CREDS] = creds
        await self.keep_record()
        if creds:  # the TLS is the consoles'
            await self.qemu.set_parameters({TLS_CREDS: ""})
        await self.qemu.set_capabilities({name: wanted[name] for name in self.record.capabilities})

    async def note_server(self) -> None:
        """Record that the NBD server is ours. Raises CommandError."""
        if self.record is not None:
            self.record.server = True
            await self.keep_record()

    def forget(self) -> None:
        """Keep nothing of a QEMU that has ended."""
        self.record = None
        self._is_recorded = False

    async def restore(self) -> None:
        """Set capabilities and parameters as they were, and remove the record. Raises CommandError."""
        if self.record is not None:
            if self.record.server:
                await stop_server(self.qemu)
            await self.qemu.set_capabilities(self.record.capabilities)
            await self.qemu.set_parameters(self.record.parameters)
            await remove_record(self.qemu.remote)
            self.forget()


def _starts_stopped(pid: int | None) -> bool:
    """Whether a QEMU was started with -S; True also if that is not known."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return True
    return b"-S" in words or b"--S" in words
