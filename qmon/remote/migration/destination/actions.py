"""The actions of the destination's table, each by commands to its QEMU."""

from __future__ import annotations

import time

from qmon.errors import CommandError
from qmon.remote.migration.agreement.capabilities import wanted
from qmon.remote.migration.destination.connections import Connections
from qmon.remote.migration.destination.incoming import Incoming
from qmon.remote.migration.destination.watch import Watch
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.qemu import is_lost
from qmon.remote.migration.recovery.leftovers import remove_leftovers
from qmon.remote.migration.states import Action


class Actions:
    """Carries them out."""

    def __init__(self, incoming: Incoming, connections: Connections, watch: Watch) -> None:
        self._incoming = incoming
        self._connections = connections
        self._watch = watch

    async def do(self, action: Action, phase: Phase) -> None:
        """Carry an action out in the phase to which it belongs. Raises QmonError, OSError."""
        incoming = self._incoming
        match action:
            case Action.RECORD | Action.RECORD_RUN:
                await incoming.write_record(phase)
            case Action.SET_UP:
                await incoming.side.set_up(wanted(is_source=False))
            case Action.HOLD:
                await incoming.side.hold()
            case Action.EXPORT:
                await incoming.answers.close()
                await incoming.server.start()
                for node, name in incoming.exports:
                    await incoming.server.export(node, name, writable=True)
            case Action.TAKE_MEMORY:
                await incoming.lines.read_memory()
                self._watch.begin()
            case Action.CLOSE_EXPORTS:
                await incoming.close_exports(phase)
            case Action.RECORD_REFUSED:
                if not incoming.remote.peer_has_ended:
                    await incoming.write_record(phase)
                incoming.refuses = True
            case Action.RUN:
                if incoming.runs:
                    await self._continue()
            case Action.UNDO:
                await self._undo(phase)
            case Action.TELL:
                self._tell(phase)

    async def _continue(self) -> None:
        """``cont``. Raises CommandError."""
        begun = time.monotonic()
        try:
            await self._incoming.qemu("cont")
        except CommandError as error:
            self._incoming.may_run = self._incoming.may_run or is_lost(error)
            raise
        self._incoming.starting_seconds = time.monotonic() - begun

    async def _undo(self, phase: Phase) -> None:
        incoming = self._incoming
        await incoming.answers.close()
        await incoming.lines.close()
        await incoming.server.stop()
        if incoming.is_taken_up:
            found = await remove_leftovers(incoming.qemu, incoming.id)
            if found:
                incoming.side.notice(f"Removed what the earlier console had left: {found}")
        await incoming.side.let_go()
        await incoming.side.restore()
        if phase is not Phase.SETTLED:  # there its source may ask again
            incoming.id = ""

    def _tell(self, phase: Phase) -> None:
        """Tell the person what is not known, and who decides, unless the source is there."""
        if self._connections.is_linked:
            return
        why, side = self._connections.why_lost, self._incoming.side
        if phase is Phase.COMPLETED:
            side.notice(
                f"The guest runs here. The connection to the source was lost before it heard so ({why}). It"
                " asks again when it can. If it has ended, or says that the migration is completed,"
                " 'migrate_resolve keep' ends the migration here"
            )
            return
        side.reason = (
            "the guest has arrived and stands still: the connection to the source was lost before it said"
            f" that the guest may run ({why}). The source asks again when it can. If the source's QEMU is"
            " known to have ended and not to have run the guest again, 'migrate_resolve keep' runs the guest"
            " here; if the guest runs at the source, 'migrate_resolve release' ends this"
        )
        side.notice(side.reason)
