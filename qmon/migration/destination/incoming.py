"""The destination as the machine knows it: it listens, and receives one migration."""

from __future__ import annotations

import socket
from collections.abc import Callable

from qmon.host.pipe_line import PipeLine
from qmon.migration.destination import images
from qmon.migration.destination.claim import Claim
from qmon.migration.destination.connections.session import Session
from qmon.migration.destination.course import Course
from qmon.migration.destination.door import Door
from qmon.migration.destination.forwarded import Forwarded
from qmon.migration.destination.forwarding import Forwarding
from qmon.migration.destination.handover import Handover
from qmon.migration.destination.interruption import Interruption
from qmon.migration.destination.inventory import Inventory
from qmon.migration.destination.options import Options
from qmon.migration.destination.records import Records
from qmon.migration.destination.side import Side
from qmon.migration.journal import Entry, Journal
from qmon.migration.phases import Phase
from qmon.migration.progress import DriveFigures, Progress
from qmon.migration.states import Event

MAX_SESSIONS = 16
"""The most connections with a thread. For one more the oldest without an offer or question is closed."""


class Incoming:
    """Receives one migration at a time into the drives, until one has completed.

    An unfit connection is closed with a line in the log, and the listener continues. A source that has lost
    its connection after GO may reconnect and ask, even when the machine runs.
    """

    def __init__(
        self,
        inventory: Inventory,
        options: Options,
        journal: Journal,
        start_machine: Callable[[bool], None],
        on_phase: Callable[[Phase], None],
        on_forwarded: Callable[[], None],
        entry: Entry | None = None,
    ) -> None:
        """``entry`` is a journal record that was found at the start.

        ``start_machine(running)`` is called when the images are open; ``running`` says whether the machine
        ran at the source. ``on_phase`` is called at each change, ``on_forwarded`` when the number of clients
        has changed whose requests are forwarded. All are called on data threads.
        """
        records = Records(journal)
        course = Course(records, inventory.leftovers, start_machine, on_phase)
        if entry is not None:
            course.restore(entry, inventory.drives)
        claim = Claim(course)
        self._side = Side(
            inventory,
            options,
            course,
            claim,
            records,
            Handover(course, records),
            Interruption(course, claim),
            Forwarding(course, options.patience.silence, on_forwarded),
        )
        self._sessions: dict[Session, None] = {}
        """The connections with a thread, oldest first."""
        self._door: Door | None = None

    @property
    def phase(self) -> Phase:
        return self._side.course.phase

    @property
    def progress(self) -> Progress:
        return self._side.course.progress

    @property
    def drive_figures(self) -> list[DriveFigures]:
        """Return the figures of each drive that is copied. The source tells only the sum of what remains."""
        progress = self.progress
        arrived = dict(progress.arrived)
        if len(arrived) == 1:
            return [
                DriveFigures(id, count, progress.remaining, progress.total) for id, count in arrived.items()
            ]
        remaining = None if progress.remaining else 0
        return [DriveFigures(id, count, remaining, None) for id, count in arrived.items()]

    @property
    def forwarded(self) -> Forwarded | None:
        """The connection by which a source forwards requests of its clients."""
        return self._side.forwarding.current

    @property
    def can_resume(self) -> bool:
        """Whether a broken line, or the end of this process, only pauses the migration."""
        return self._side.interruption.can_resume

    @property
    def can_recover(self) -> bool:
        """Whether a broken migration waits here for its source."""
        return self._side.claim.can_recover

    def hold(self) -> None:
        """After a restart of a paused migration: lock its images. Raises QmonError."""
        assert self._side.course.transfer is not None
        images.hold(self._side.course.transfer)

    def pause(self) -> None:
        """Close the line, and keep what is here. Raises CommandError if that is not possible."""
        self._side.interruption.pause()

    def cancel(self) -> None:
        """Give up the images of a paused migration. Does nothing if there is none. Blocks."""
        self._side.interruption.cancel()

    def resolve(self, event: Event) -> None:
        """Decide by KEEP or RELEASE which side has the disks. Blocks. Raises CommandError."""
        self._side.handover.resolve(event)

    def listen(self, listener: socket.socket) -> None:
        """Begin to accept connections; returns at once. Raises OSError; then the listener is closed."""
        self._door = Door(listener, self._let_in, self._side.options.patience)

    def unlisten(self) -> None:
        """Stop accepting; existing connections stay. Blocks for a moment."""
        if self._door is not None:
            self._door.close()

    def receive(self, line: socket.socket | PipeLine, peer: str) -> None:
        """Begin to read the one connection that there will be. Raises OSError; then it is closed."""
        try:
            self._begin(Session(self._side, line, peer, self._ended, is_only=True))
        except BaseException:
            line.close()
            raise

    def stop(self) -> None:
        """Stop listening, and end a migration that has not been told to run; idempotent. Blocks."""
        self.unlisten()
        for session in list(self._sessions):
            session.end()
        for session in list(self._sessions):
            session.join()
        self._side.course.end(Event.END)

    def _let_in(self, sock: socket.socket, peer: str) -> bool:
        """Start a session for a connection; if there is no room, make some and return False."""
        now = list(self._sessions)  # others end on their own threads meanwhile
        sessions = [each for each in now if not each.is_channel]
        if len(sessions) >= MAX_SESSIONS:
            for session in sessions:
                if not session.has_spoken:
                    session.abort()
                    break
            return False
        self._begin(Session(self._side, sock, peer, self._ended))
        return True

    def _begin(self, session: Session) -> None:
        self._sessions[session] = None
        try:
            session.start()
        except BaseException:
            del self._sessions[session]
            raise

    def _ended(self, session: Session) -> None:
        """The session's thread is about to end."""
        self._sessions.pop(session, None)
        if self._door is not None:
            self._door.has_room()
