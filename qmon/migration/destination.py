"""The destination's side: listens, takes one migration in, and runs when it is told to."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Sequence

from qmon.errors import reason
from qmon.migration.drive import MigratingDrive
from qmon.migration.offer import OfferError
from qmon.migration.progress import Progress
from qmon.migration.session import Session
from qmon.migration.states import DESTINATION, Event, Phase, StateMachine

log = logging.getLogger("qmon.migration")

MAX_UNGREETED = 16
"""Connections that may be open without having said hello; one more is closed at once."""


class Incoming:
    """Listens on ``listener`` for one migration into the drives, until it is complete.

    ``drives`` is asked, on a data thread, when a migration offers itself: they may come and go before.
    ``start_machine(running)`` is called on GO, on a data thread: the images are open then and the machine
    may run, or stand if it stood at the source. ``on_phase`` is called at each change, on a data thread.
    A connection that does not fit is closed with a line in the log, and the listener goes on.
    """

    def __init__(
        self,
        listener: socket.socket,
        drives: Callable[[], Sequence[MigratingDrive]],
        start_machine: Callable[[bool], None],
        on_phase: Callable[[Phase], None],
    ) -> None:
        self._listener = listener
        self._drives = drives
        self._start_machine = start_machine
        self._states = StateMachine(DESTINATION, on_phase)
        self._claim = threading.Lock()
        self._owner: Session | None = None
        self._sessions: set[Session] = set()
        self._stopping = False
        self.progress = Progress()
        self._thread = threading.Thread(target=self._accept, name="migration-incoming", daemon=True)

    @property
    def phase(self) -> Phase:
        return self._states.phase

    @property
    def drives(self) -> Sequence[MigratingDrive]:
        """The drives of now."""
        return self._drives()

    def start(self) -> None:
        """Begin to listen; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and end what is under way, if it has not been told to run; idempotent. Blocks."""
        self._stopping = True
        with contextlib.suppress(OSError):  # already closed
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for session in list(self._sessions):
            session.abort()
        for session in list(self._sessions):
            session.join()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                sock, peer = self._listener.accept()
            except OSError as error:
                if not self._stopping:
                    log.error("incoming migration: can't accept connections any more: %s", reason(error))
                return
            name = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a local process"
            if len(self._sessions) >= MAX_UNGREETED:
                log.warning("incoming migration: connection from %s closed: too many are open", name)
                sock.close()
                continue
            session = Session(self, sock, name)
            self._sessions.add(session)
            session.start()

    # What a session asks of its listener, on the session's thread.

    def claim(self, session: Session) -> Progress:
        """Make this session the one whose migration it is. Raises OfferError when another is."""
        with self._claim:
            if self._owner is not None or not self._states.try_step(Event.START):
                raise OfferError("another migration is already coming in")
            self._owner = session
            self.progress = Progress()
            return self.progress

    def step(self, event: Event) -> None:
        """Move the one migration on."""
        self._states.step(event)

    def failed(self, session: Session) -> None:
        """Let the next migration in."""
        with self._claim:
            if self._owner is session:
                if not self._states.try_step(Event.FAIL):
                    self._states.step(Event.REFUSED)  # after GO
                self._owner = None

    def ended(self, session: Session) -> None:
        self._sessions.discard(session)

    def completed(self) -> None:
        """The machine runs: nothing more may come in."""
        self._stopping = True
        with contextlib.suppress(OSError):  # a Unix socket that is gone
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def start_machine(self, running: bool) -> None:
        self._start_machine(running)
