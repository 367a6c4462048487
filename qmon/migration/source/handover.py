"""GO, and after it: the source waits for the answer, and asks again as long as the outcome is not known."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from qmon.errors import CommandError, QmonError, reason
from qmon.host.logs import TOLD_BY_EVENT
from qmon.migration.phases import Phase
from qmon.migration.source.context import Context
from qmon.migration.source.errors import LinkError, PeerRefusedError
from qmon.migration.source.link import STALL_TIMEOUT, Link
from qmon.migration.source.orders import Orders
from qmon.migration.states import Event
from qmon.migration.wire.answers import Type
from qmon.migration.wire.stream import PREAMBLE, forwards, go, heard, unheard_end

log = logging.getLogger("qmon.migration")

ASK_AGAIN_SECONDS = 1.0


def doubt(why: str) -> str:
    """Return the error of a source that does not know whether the destination runs."""
    return (
        f"it is not known whether the destination runs: {why}. This side is paused and asks again; if the"
        " destination can't answer, make sure that it does not run, then migrate_resolve keep"
    )


class Handover:
    """GO, and the steps after it. For the migration's thread; ``stop`` may be called from any thread.

    ``finish(event)`` makes the last transition; before RUNNING, ``decide`` is told whether the destination
    takes requests of this side's clients.
    """

    def __init__(
        self,
        context: Context,
        orders: Orders,
        finish: Callable[[Event], None],
        decide: Callable[[bool], None],
    ) -> None:
        self._id = context.id.bytes
        self._steps = context.steps
        self._sender = context.sender
        self._progress = context.progress
        self._orders = orders
        self._finish = finish
        self._decide = decide
        self._stopped = threading.Event()

    def send_go(self, digest: int) -> None:
        """Send GO, the point of no return. Raises the error that leaves the outcome in doubt."""
        link = self._sender.link
        if link is not None and link.is_one_way:
            self._sender.writer.raw(unheard_end(self._id, digest))
        else:
            self._sender.writer.raw(go(self._id, digest))
            self._sender.expect(Type.RUNNING, Type.UNKNOWN)
        self._sender.flush()

    def confirm(self, *, requests_follow: bool) -> None:
        """Confirm RUNNING. Without the confirmation the destination keeps its record, which is harmless."""
        command = forwards if requests_follow else heard
        self._sender.writer.raw(command(self._id))
        try:
            self._sender.flush()
        except (OSError, QmonError) as error:
            log.debug("can't confirm the destination's answer: %s", reason(error))
        self._progress.remaining = 0  # the confirmation was the last thing to send

    def settle(self) -> None:
        """Wait for the answer to GO; reconnect and ask again until the outcome is known or after ``stop``."""
        while self._steps.phase in (Phase.GONE, Phase.DOUBT, Phase.ORDERED):
            if self._steps.phase is Phase.DOUBT and not self._ask_again():
                break
            self._hear()

    def lose(self, why: str) -> None:
        """Note that the answer was lost or is unusable: the migration is in doubt from now on."""
        if (link := self._sender.link) is not None and link.is_one_way:
            self._give_up(link, why)
            return
        before, self._progress.error = self._progress.error, doubt(why)
        self._steps.step(Event.LOST)
        if self._progress.error != before:
            log.error("migration: %s", self._progress.error, extra=TOLD_BY_EVENT)

    def stop(self) -> None:
        """Stop asking: the operator has decided, or the process ends."""
        self._stopped.set()

    def _hear(self) -> None:
        """Wait for the answer. Without one the migration is in doubt."""
        assert self._sender.link is not None
        if self._sender.link.is_one_way:
            self._complete(self._sender.link)
            return
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
            self._decide(answer.takes_requests)
            self._finish(Event.RUNNING)

    def _complete(self, link: Link) -> None:
        """End a stream that nobody answers."""
        try:
            link.complete()
        except QmonError as error:
            self._give_up(link, reason(error))
        else:
            self._progress.remaining = 0
            self._finish(Event.UNCONFIRMED)

    def _give_up(self, link: Link, why: str) -> None:
        """Something has failed at the end of a stream that nobody answers. Nobody obeys one in a file."""
        if link.is_stored:
            self._progress.error = why
            self._finish(Event.REFUSED)
            return
        self._progress.error = (
            f"{why}. This side stays paused: what was sent orders a destination to run. If none does, cont"
            " continues here"
        )
        self._finish(Event.UNSURE)

    def _ask_again(self) -> bool:
        """In doubt: reconnect and send GO again. Return False if ``stop`` or the operator ended the doubt."""
        while not self._stopped.wait(ASK_AGAIN_SECONDS):
            if self._sender.link is not None:
                self._sender.link.close()
            try:
                self._sender.connect(self._orders.route, self._check, is_known=True)
            except CommandError as error:  # the parameters of TLS
                self._progress.error = doubt(reason(error))
                continue
            except (OSError, QmonError, MemoryError) as error:
                log.debug("the destination can't be asked: %s", reason(error))
                continue
            self._sender.writer.clear()
            self._sender.writer.raw(PREAMBLE)
            try:
                return self._steps.try_step(Event.RECONNECTED)
            except (OSError, QmonError, MemoryError) as error:
                self.lose(reason(error))
        return False

    def _check(self) -> None:
        if self._stopped.is_set():
            raise LinkError("the operator has resolved the migration")
