"""What the parts of the source's side share: who takes part, and what is known of the guest."""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

from qmon.errors import CommandError
from qmon.notation.address import Address
from qmon.remote.migration.agreement.matching import Plan
from qmon.remote.migration.copies import Copy
from qmon.remote.migration.lines.handing import Handing
from qmon.remote.migration.nudges import Nudges
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.proof.checks import Checks
from qmon.remote.migration.qemu import Qemu
from qmon.remote.migration.rates.pacing import Pacing
from qmon.remote.migration.rates.settings import Settings
from qmon.remote.migration.recovery.guardian import Guardian
from qmon.remote.migration.recovery.record import Record, this_console
from qmon.remote.migration.report import merged, plan_info, whole
from qmon.remote.migration.side import Emit, Side
from qmon.remote.migration.wire.peer import Peer
from qmon.remote.remote import Remote
from qmon.remote.secured import Secure

_LINE = (
    "this console and the destination's, which pass disks and memory on: this QEMU is not reached by a Unix"
    " socket",
    "the QEMUs' own connections; the destination's console passes the disks on",
)
"""How disks and memory travel: through this console, or not."""

_TLS_LINE = "this console and the destination's, under TLS"


class Outgoing:
    """One migration at its source."""

    def __init__(
        self,
        remote: Remote,
        uri: str,
        address: Address,
        emit: Emit,
        on_loss: Callable[[str], None],
        *,
        inc: bool,
        settings: Settings,
        secure: Secure | None = None,
    ) -> None:
        """``on_loss`` is called with the reason when the connection between the consoles is lost."""
        self.id = str(uuid.uuid4())
        self.uri = uri
        self.inc = inc
        self.settings = settings
        self.remote = remote
        self.qemu = Qemu(remote)
        self.side = Side(self.qemu, emit, "source")
        self.pacing = Pacing(self.side, settings, inc=inc)
        self.peer = Peer(uri, address, self.id, lambda event, data: None, on_loss, secure)
        self.checks = Checks(remote, self.peer.ask, self.id, self.side.notice)
        self.handing = Handing(remote)
        self.guardian = Guardian()
        self.nudges = Nudges()
        self.plan: Plan | None = None
        self.copies: list[Copy] = []
        self.memory: socket.socket | None = None
        """The memory's connection, until the QEMU gets it."""
        self.is_taken_up = False
        """Whether an earlier console has begun it."""
        self.runs = True
        """Whether the guest is to run at the destination: a person may have stopped it."""
        self.has_resumed = False
        """Whether the QEMU has run the guest again after it was stopped. QEMU says so before it does it."""
        self.begun = time.monotonic()
        self.ended: float | None = None
        self.stopped_at: float | None = None
        """When the guest was stopped to be handed over."""
        self.downtime: float | None = None
        """In seconds, once the guest runs at the destination."""

    def continue_from(self, record: Record) -> None:
        """Be the migration of a record, whose console has ended."""
        self.id, self.runs, self.side.record = record.id, record.runs, record
        self.peer.migration = record.id
        record.console = this_console()
        self.is_taken_up = True

    async def write_record(self, phase: Phase) -> None:
        """Keep the phase in the QEMU. Raises CommandError."""
        await self.side.write_record(self.id, self.uri, phase.value, runs=self.runs)

    async def see_whether_it_runs(self) -> None:
        """Keep whether the guest runs: one that a person has stopped is not to run at the destination."""
        state = await self.qemu.run_state()
        if state in ("running", "paused"):  # and not in a state of the migration
            self.runs = state == "running"

    @property
    def _line(self) -> str:
        return _TLS_LINE if self.peer.has_tls else _LINE[self.handing.is_direct]

    async def figures(self, phase: Phase) -> dict[str, Any]:
        """Return the MigrationInfo. Raises CommandError."""
        info = merged(plan_info(self.plan), self.pacing.info())
        info |= {"status": phase.status, "total-time": _milliseconds(self.begun, self.ended)}
        if phase in (Phase.HANDED, Phase.DOUBT, Phase.COMPLETED):
            info = {**whole(info), "x-qmon-runs": self.runs}
        if self.downtime is not None:
            info["downtime"] = round(self.downtime * 1000)
        elif phase is Phase.HANDED and self.stopped_at is not None:
            info["downtime"] = _milliseconds(self.stopped_at)
        told = {"x-qmon-verified": self.checks.verified, "x-qmon-line": self._line}
        return info | {name: text for name, text in told.items() if text}

    def close_memory(self) -> None:
        """End the memory's connection, if the QEMU has not got it; idempotent."""
        if self.memory is not None:
            self.memory.close()
            self.memory = None

    async def close(self) -> None:
        """End all connections, and remove what was made on this host, also if the QEMU has ended."""
        self.ended = time.monotonic()
        await self.peer.close("the migration has ended")
        self.close_memory()
        self.pacing.close()
        for close in (self.checks.close, self.handing.close):
            with contextlib.suppress(CommandError):  # the QEMU is not there
                await close()


def _milliseconds(begun: float, ended: float | None = None) -> int:
    return round(((time.monotonic() if ended is None else ended) - begun) * 1000)
