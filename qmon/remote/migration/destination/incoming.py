"""What the parts of the destination's side share: who takes part, and what is known of the guest."""

from __future__ import annotations

from typing import Any

from qmon.errors import CommandError
from qmon.remote.migration.lines.incoming_lines import IncomingLines
from qmon.remote.migration.lines.private_server import PrivateServer
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.proof.answers import Answers
from qmon.remote.migration.qemu import Qemu
from qmon.remote.migration.recovery.record import Record, this_console
from qmon.remote.migration.report import has_ended_well, whole
from qmon.remote.migration.side import Emit, Side
from qmon.remote.remote import Remote


class Incoming:
    """The migration that comes in, or is awaited."""

    def __init__(self, remote: Remote, emit: Emit) -> None:
        self.id = ""
        """That of the migration, "" while none comes."""
        self.where = ""
        """The address on which the console listens."""
        self.peer = ""
        """Who has connected to it, for a person."""
        self.figures: dict[str, Any] = {}
        """The source's last figures (``query-migrate``)."""
        self.remote = remote
        self.qemu = Qemu(remote)
        self.side = Side(self.qemu, emit, "destination")
        self.server = PrivateServer(remote)
        self.answers = Answers(remote, self.server)
        self.lines = IncomingLines(remote, self.server)
        self.exports: list[tuple[str, str]] = []
        """The nodes that the source writes to, and their exports' names."""
        self.is_taken_up = False
        """Whether an earlier console has begun it."""
        self.runs = True
        """Whether the guest is to run here: it may have been stopped before it was moved."""
        self.may_run = False
        """Whether it is not known that the guest has not run here."""
        self.refuses = False
        """Whether it is kept that the guest must not run here."""
        self.starting_seconds = 0.0
        """How long the QEMU has taken to run the guest: a part of the downtime."""

    def continue_from(self, record: Record) -> None:
        """Be the migration of a record, whose console has ended."""
        self.id, self.runs, self.side.record = record.id, record.runs, record
        record.console = this_console()
        self.is_taken_up = True

    async def write_record(self, phase: Phase) -> None:
        """Keep the phase in the QEMU. Raises CommandError."""
        await self.side.write_record(self.id, self.where, phase.value, runs=self.runs)

    def info(self, phase: Phase) -> dict[str, Any]:
        """Return the source's last figures, with what is known here of the end."""
        figures = self.figures
        if has_ended_well(phase):
            figures = {**whole(figures), "x-qmon-runs": self.runs}
        if "downtime" in figures:
            return {**figures, "downtime": figures["downtime"] + round(self.starting_seconds * 1000)}
        return dict(figures)

    async def close_exports(self, phase: Phase) -> None:
        """End the exports of the disks. Raises CommandError."""
        self.lines.end()
        if self.remote.peer_has_ended:
            self.server.forget()
            return
        try:
            await self.server.stop()
        except CommandError:
            if phase is not Phase.REFUSED:  # there its QEMU may have ended with them
                raise
