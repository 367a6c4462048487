"""After GO: the source hears how it went, and asks again for as long as it does not know."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from qmon.errors import QmonError, reason
from qmon.host.sockets import connect
from qmon.migration.phases import Phase
from qmon.migration.progress import Progress
from qmon.migration.source.link import (
    STALL_TIMEOUT,
    Link,
    LinkError,
    PeerRefusedError,
)
from qmon.migration.source.sender import Sender
from qmon.migration.states import Event, StateMachine
from qmon.migration.wire.answers import Type
from qmon.migration.wire.stream import PREAMBLE
from qmon.notation.address import Address

log = logging.getLogger("qmon.migration")

CONNECT_TIMEOUT = 10
ASK_AGAIN_SECONDS = 1.0


def doubt(why: str) -> str:
    """What a source in doubt says of itself."""
    return (
        f"it is not known whether the destination runs: {why}. This side stands still and asks again; where"
        " nobody can answer, make sure that the other side does not run, then migrate_resolve keep"
    )


class Handover:
    """What follows GO, on the migration's thread; ``stop`` is for any.

    ``finish`` makes the last transition, by the event that it is given.
    """

    def __init__(
        self,
        address: Address,
        states: StateMachine,
        sender: Sender,
        progress: Progress,
        finish: Callable[[Event], None],
    ) -> None:
        self._address = address
        self._states = states
        self._sender = sender
        self._progress = progress
        self._finish = finish
        self._stopped = threading.Event()

    def settle(self) -> None:
        """While GO is on its way, or there is doubt: hear, and ask again. Returns also when stopped."""
        while self._states.phase in (Phase.GONE, Phase.DOUBT):
            if self._states.phase is Phase.DOUBT and not self._ask_again():
                break
            self._hear()

    def lose(self, why: str) -> None:
        """The answer was lost, or can't be used: from now on there is doubt."""
        before, self._progress.error = self._progress.error, doubt(why)
        self._states.step(Event.LOST)
        if self._progress.error != before:
            log.error("migration: %s", self._progress.error)

    def stop(self) -> None:
        """Ask no more: it was decided otherwise, or the process goes."""
        self._stopped.set()

    def _hear(self) -> None:
        """Hear how it went. Without an answer there is doubt."""
        assert self._sender.link is not None
        try:
            answer = self._sender.link.wait_for(Type.RUNNING, Type.UNKNOWN, timeout=STALL_TIMEOUT)
        except PeerRefusedError as refused:
            self._progress.error = f"the destination refused to run: {refused}"
            self._finish(Event.REFUSED)
        except (QmonError, MemoryError) as error:  # also for an answer that is none: it may have been RUNNING
            self.lose(reason(error))
        else:
            if answer.type is Type.UNKNOWN:
                self.lose("the destination knows nothing of this migration")
                return
            self._progress.remaining = 0
            self._progress.error = None
            self._finish(Event.RUNNING)

    def _ask_again(self) -> bool:
        """In doubt: reconnect and send GO again; say whether that was done, or something else has decided."""
        while not self._stopped.wait(ASK_AGAIN_SECONDS):
            if self._sender.link is not None:
                self._sender.link.close()
            try:
                sock = connect(self._address, CONNECT_TIMEOUT, self._check)
                self._sender.link = Link(sock, self._progress)
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
            raise LinkError("it was decided otherwise")
