"""The switchover up to PREPARED: guests are paused, for a limited time, while the rest is sent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from qmon.migration.phases import Phase
from qmon.migration.source.context import Context
from qmon.migration.source.convergence import Convergence
from qmon.migration.source.disks import UndrainedError
from qmon.migration.source.errors import LateAnswerError, LinkError
from qmon.migration.source.link import Link
from qmon.migration.source.shared import SharedDisks
from qmon.migration.source.time_limit import TimeLimit
from qmon.migration.states import Event
from qmon.migration.timeline import Mark
from qmon.migration.wire.answers import Type

log = logging.getLogger("qmon.migration")

MAX_ATTEMPTS = 3
"""The migration fails after this many switchovers that took too long."""

PAUSE_CHECK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Prepared:
    """The destination's PREPARED answer."""

    digest: int
    running: bool
    """Whether the machine ran when the gates closed."""


class Switchover:
    """The switchover attempts of one migration. For its thread; ``go_on`` may be called from any thread.

    ``is_running`` says whether the machine ran when the gates closed.
    """

    def __init__(self, context: Context, is_running: Callable[[], bool]) -> None:
        self._disks = context.disks
        self._steps = context.steps
        self._parameters = context.parameters
        self._margin_seconds = context.patience.margin
        self._pause = context.options.pause_before_switchover
        self._sender = context.sender
        self._progress = context.progress
        self._is_running = is_running
        self._told_to_go_on = threading.Event()
        self._seconds = 0.0
        """How long guests may be paused in this attempt, without the wait for ``go_on``."""

    def go_on(self) -> None:
        """End the pause before the switchover."""
        self._told_to_go_on.set()

    def close_gates(self) -> None:
        """Close all gates. Raises UndrainedError."""
        self._disks.close_gates(self._seconds)

    def attempt(
        self, link: Link, convergence: Convergence, shared: SharedDisks | None = None
    ) -> Prepared | None:
        """Pause guests and prepare the destination; if that takes too long, continue them and return None.

        ``shared`` compares shared disks.
        """
        self._seconds = self._margin_seconds + 2 * self._parameters.downtime_limit_ms / 1000
        self._progress.gates_closed = time.monotonic()
        self._progress.timeline.mark(Mark.SWITCHOVER, f"at most {self._seconds:g} s")
        prepared = None
        finished = False
        if self._stand_still(link):
            running = self._is_running()
            with TimeLimit(self._seconds, self._let_guests_on) as limit:
                convergence.round()
                if shared is not None:
                    shared.prove_again(convergence.flush_drives)
                if self._steps.phase is Phase.SWITCHOVER:
                    finished = True
                    prepared = self._finish(link, convergence, running, limit)
        # From here on only this thread can continue the guests.
        if prepared is None:
            self._let_guests_on()
        self._steps.check()
        if self._steps.phase is Phase.SWITCHOVER:
            return prepared
        if finished:
            convergence.go_back(link)
        convergence.copy_on(link, self._seconds)
        return None

    def _stand_still(self, link: Link) -> bool:
        """Close the gates, and wait for ``go_on``; return whether all requests have finished."""
        self._told_to_go_on.clear()
        try:
            self._steps.advance(Event.PAUSE if self._pause else Event.CONVERGED)
        except UndrainedError as error:
            log.warning("migration: %s", error)
            return False
        if self._pause:
            while not self._told_to_go_on.wait(PAUSE_CHECK_SECONDS):
                link.check()
                self._sender.show_life()
            self._steps.advance(Event.CONTINUE)
        return True

    def _finish(
        self, link: Link, convergence: Convergence, running: bool, limit: TimeLimit
    ) -> Prepared | None:
        """Send the rest and FINISH; return the destination's PREPARED, or None if it is late."""
        self._sender.settle()
        self._sender.begin_last_part()
        expected = self._sender.writer.finish(running)
        self._sender.expect(Type.PREPARED)
        self._sender.end_part()
        convergence.flush_drives()  # while the destination flushes, so that the release is fast
        if link.is_one_way:
            return Prepared(expected[1], running)
        try:
            answer = link.wait_for(Type.PREPARED, timeout=limit.left)
        except LateAnswerError:
            return None
        if answer.prepared != expected:
            raise LinkError("the digest of the data received by the destination differs from the source's")
        self._progress.timeline.mark(Mark.COMPARED, f"the digests of {expected[0]} records are equal")
        return Prepared(expected[1], running)

    def _let_guests_on(self) -> None:
        """Continue the guests, which were paused too long. TimeLimit calls it on its own thread."""
        if not self._steps.try_step(Event.OVERDUE):
            return
        progress = self._progress
        progress.gates_closed = None
        progress.overdue += 1
        progress.timeline.mark(
            Mark.OVERDUE, f"guests continue (attempt {progress.overdue} of {MAX_ATTEMPTS})"
        )
        log.warning(
            "migration: the switchover took longer than %g s: guests continue (attempt %d of %d)",
            self._seconds,
            progress.overdue,
            MAX_ATTEMPTS,
        )
        if progress.overdue >= MAX_ATTEMPTS:
            self._steps.failure = (
                f"the switchover took more than {self._seconds:g} s, {MAX_ATTEMPTS} times: the network or the"
                " destination is too slow for what the guests write, or downtime-limit is too low"
            )
            self._sender.abort()
