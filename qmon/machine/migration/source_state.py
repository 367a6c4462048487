"""The machine's run state during an outgoing migration: from the switchover on it stands still."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from qmon.machine.machine import STOPPED, Machine
from qmon.machine.runstate import RunState
from qmon.migration.drive import GATE_REASON
from qmon.migration.phases import Phase

LOOP_TIMEOUT = 10
"""Seconds that a data thread waits for an answer from the loop."""

_STANDING = frozenset({RunState.FINISH_MIGRATE, RunState.POSTMIGRATE})
"""The run states in which the destination may have the disks."""


class SourceRunState:
    """For the loop, except where it says otherwise."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._before = RunState.RUNNING
        """The state before the machine stood still."""
        self._stopping: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """A migration starts."""
        self._before = self._machine.state

    def ran_before(self) -> bool:
        """Return whether the machine ran before the switchover. The source's thread calls it."""
        answer: Future[bool] = Future()
        self._machine.post(lambda: answer.set_result(self._before is RunState.RUNNING))
        return answer.result(LOOP_TIMEOUT)

    def follow(self, phase: Phase, last: Phase) -> None:
        """Change the machine's state when the source comes from its ``last`` phase to another."""
        machine = self._machine
        match phase:
            case Phase.PRE_SWITCHOVER | Phase.SWITCHOVER if last is not Phase.PRE_SWITCHOVER:
                self._before = machine.state
                machine.set_state(RunState.FINISH_MIGRATE)
            case Phase.ACTIVE | Phase.PAUSED if machine.state is RunState.FINISH_MIGRATE:
                machine.set_state(self._before)  # the switchover took too long
            case Phase.COMPLETED | Phase.UNCONFIRMED | Phase.ABANDONED:
                machine.set_state(RunState.POSTMIGRATE)
            case Phase.FAILED | Phase.CANCELLED | Phase.CONTINUED if machine.state in _STANDING:
                machine.set_state(self._before)
                if not all(drive.is_active for drive in machine.drives.values()):
                    # Without its images the machine can't run: stop it; cont tries to open them again.
                    self._stopping = asyncio.ensure_future(machine.stop())

    def note_restart(self, *, ran: bool) -> None:
        """A migration continues after a restart; ``ran`` says whether the machine ran before it."""
        self._before = RunState.RUNNING if ran and self._machine.autostart else RunState.PAUSED

    def stand_still(self, state: RunState) -> None:
        """Stand still from a restart on, because the destination may have the disks."""
        self._machine.state = state
        for drive in self._machine.drives.values():
            drive.gate.close(GATE_REASON, 0)  # no request is inside yet
            if self._before is RunState.RUNNING:
                drive.gate.open(STOPPED)
