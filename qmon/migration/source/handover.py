"""After GO: the source waits for the answer, and asks again as long as the outcome is not known."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from qmon.errors import QmonError, reason
from qmon.host.logs import TOLD_BY_EVENT
from qmon.host.sockets import connect
from qmon.migration.phases import Phase
from qmon.migration.progress import Progress
from qmon.migration.source.link import (
    CONNECT_TIMEOUT,
    STALL_TIMEOUT,
    Link,
    LinkError,
    PeerRefusedError,
)
from qmon.migration.source.sender import Sender
from qmon.migration.states import Event, StateMachine
from qmon.migration.wire.answers import Type
from qmon.migration.wire.stream import PREAMBLE
from qmon.migration.wire.transport import Transport

log = logging.getLogger("qmon.migration")

ASK_AGAIN_SECONDS = 1.0


def doubt(why: str) -> str:
    """Return the error of a source that does not know whether the destination runs."""
    return (
        f"it is not known whether the destination runs: {why}. This side is paused and asks again; if the"
        " destination can't answer, make sure that it does not run, then migrate_resolve keep"
    )


class Handover:
    """The steps after GO. For the migration's thread; ``stop`` may be called from any thread.

    ``finish(event)`` makes the last transition.
    """

    def __init__(
        self,
        transport: Transport,
        states: StateMachine,
        sender: Sender,
        progress: Progress,
        finish: Callable[[Event], None],
    ) -> None:
        self._transport = transport
        self._states = states
        self._sender = sender
        self._progress = progress
        self._finish = finish
        self._stopped = threading.Event()

    def settle(self) -> None:
        """Wait for the answer to GO; reconnect and ask again until the outcome is known or after ``stop``."""
        while self._states.phase in (Phase.GONE, Phase.DOUBT):
            if self._states.phase is Phase.DOUBT and not self._ask_again():
                break
            self._hear()

    def lose(self, why: str) -> None:
        """Note that the answer was lost or is unusable: the migration is in doubt from now on."""
        before, self._progress.error = self._progress.error, doubt(why)
        self._states.step(Event.LOST)
        if self._progress.error != before:
            log.error("migration: %s", self._progress.error, extra=TOLD_BY_EVENT)

    def stop(self) -> None:
        """Stop asking: the operator has decided, or the process ends."""
        self._stopped.set()

    def _hear(self) -> None:
        """Wait for the answer. Without one the migration is in doubt."""
        assert self._sender.link is not None
        try:
            answer = self._sender.link.wait_for(Type.RUNNING, Type.UNKNOWN, timeout=STALL_TIMEOUT)
        except PeerRefusedError as refused:
            self._progress.error = f"the destination refused to run: {refused}"
            self._finish(Event.REFUSED)
        except (QmonError, MemoryError) as error:  # also for an invalid answer: it may have been RUNNING
            self.lose(reason(error))
        else:
            if answer.type is Type.UNKNOWN:
                self.lose("the destination does not know this migration")
                return
            self._progress.remaining = 0
            self._progress.error = None
            self._finish(Event.RUNNING)

    def _ask_again(self) -> bool:
        """In doubt: reconnect and send GO again. Return False if ``stop`` or the operator ended the doubt."""
        while not self._stopped.wait(ASK_AGAIN_SECONDS):
            if self._sender.link is not None:
                self._sender.link.close()
            try:
                sock = connect(self._transport.address, CONNECT_TIMEOUT, self._check)
                self._sender.link = Link(sock, self._progress, self._transport.uri, is_known=True)
            except (OSError, QmonError, MemoryError) as error:
                log.debug("the destination can't be asked: %s", reason(error))
                continue
            self._sender.writer.clear()
            self._sender.writer.raw(PREAMBLE)
            try:
                return self._states.try_step(Event.RECONNECTED)
            except (OSError, QmonError, MemoryError) as error:
                self.lose(reason(error))
        return False

    def _check(self) -> None:
        if self._stopped.is_set():
            raise LinkError("the operator has resolved the migration")
