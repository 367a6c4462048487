"""The switchover up to PREPARED: guests are paused, for a limited time, while the rest is sent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from qmon.errors import QmonError
from qmon.migration.drive import GATE_REASON, MigratingDrive
from qmon.migration.parameters import Parameters
from qmon.migration.phases import Phase
from qmon.migration.progress import Progress
from qmon.migration.source.convergence import Convergence
from qmon.migration.source.link import LateAnswerError, Link, LinkError
from qmon.migration.source.sender import Sender
from qmon.migration.source.shared import SharedDisks
from qmon.migration.states import Event, StateMachine
from qmon.migration.wire.answers import Type
from qmon.migration.wire.stream import section_end

log = logging.getLogger("qmon.migration")

MAX_ATTEMPTS = 3
"""The migration fails after this many switchovers that took too long."""

PAUSE_CHECK_SECONDS = 0.1


class UndrainedError(QmonError):
    """A request inside a gate did not finish in time."""


def close_gate(drive: MigratingDrive, seconds: float) -> None:
    """Close the drive's gate and wait until the requests inside finish. Raises UndrainedError."""
    if not drive.gate.close(GATE_REASON, seconds):
        raise UndrainedError(f"drive '{drive.id}': a request did not finish within {seconds:.0f} s")


class TimeLimit:
    """A time limit for a block: ``with TimeLimit(seconds, overdue) as limit:``.

    ``overdue`` is called on a thread of its own when the time is over, even if the block hangs. After the
    block it has returned, or it is never called. Raises QmonError if no thread can be started.
    """

    def __init__(self, seconds: float, overdue: Callable[[], None]) -> None:
        self._deadline = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, overdue)
        self._timer.daemon = True
        self._timer.name = "migration-limit"

    def __enter__(self) -> TimeLimit:
        try:
            self._timer.start()
        except RuntimeError as error:
            raise QmonError("can't start the thread that limits how long guests are paused") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()

    @property
    def left(self) -> float:
        """Return the remaining seconds, at least 0."""
        return max(0.0, self._deadline - time.monotonic())


@dataclass(frozen=True, slots=True)
class Prepared:
    """The destination's PREPARED answer."""

    digest: int
    running: bool
    """Whether the machine ran when the gates closed."""


class Switchover:
    """The switchover attempts of one migration. For its thread; ``go_on`` may be called from any thread.

    ``step`` makes a transition; ``check`` and ``step`` raise the error that ends the migration.
    ``is_running`` says whether the machine ran when the gates closed. With ``pause`` an attempt waits for
    ``go_on``.
    """

    def __init__(
        self,
        drives: Sequence[MigratingDrive],
        states: StateMachine,
        parameters: Parameters,
        sender: Sender,
        progress: Progress,
        *,
        step: Callable[[Event], None],
        check: Callable[[], None],
        is_running: Callable[[], bool],
        pause: bool,
        margin_seconds: float,
    ) -> None:
        self._drives = drives
        self._states = states
        self._parameters = parameters
        self._margin_seconds = margin_seconds
        self._sender = sender
        self._progress = progress
        self._step = step
        self._check = check
        self._is_running = is_running
        self._pause = pause
        self._told_to_go_on = threading.Event()
        self._seconds = 0.0
        """How long guests may be paused in this attempt, without the wait for ``go_on``."""

    @property
    def failure(self) -> str | None:
        """Return why the migration must end after too many attempts, else None."""
        if self._progress.overdue < MAX_ATTEMPTS:
            return None
        return (
            f"the switchover took more than {self._seconds:g} s, {MAX_ATTEMPTS} times: the network or the"
            " destination is too slow for what the guests write, or downtime-limit is too low"
        )

    def go_on(self) -> None:
        """End the wait of ``pause``."""
        self._told_to_go_on.set()

    def close_gates(self) -> None:
        """Close all gates. Raises UndrainedError."""
        deadline = time.monotonic() + self._seconds
        for drive in self._drives:
            close_gate(drive, max(0.0, deadline - time.monotonic()))

    def open_gates(self) -> None:
        """Open all gates."""
        for drive in self._drives:
            drive.gate.open(GATE_REASON)

    def attempt(
        self, link: Link, convergence: Convergence, shared: SharedDisks | None = None
    ) -> Prepared | None:
        """Pause guests and prepare the destination; if that takes too long, continue them and return None.

        ``shared`` compares shared disks.
        """
        self._seconds = self._margin_seconds + 2 * self._parameters.downtime_limit_ms / 1000
        self._progress.gates_closed = time.monotonic()
        prepared = None
        finished = False
        if self._stand_still(link):
            running = self._is_running()
            with TimeLimit(self._seconds, self._let_guests_on) as limit:
                convergence.round()
                if shared is not None:
                    shared.prove_again(convergence.flush_drives)
                if self._states.phase is Phase.SWITCHOVER:
                    finished = True
                    prepared = self._finish(link, convergence, running, limit)
        # From here on only this thread can continue the guests.
        if prepared is None:
            self._let_guests_on()
        self._check()
        if self._states.phase is Phase.SWITCHOVER:
            return prepared
        if finished:
            convergence.go_back(link)
        convergence.copy_on(link, self._seconds)
        return None

    def _stand_still(self, link: Link) -> bool:
        """Close the gates, and wait for ``go_on``; return whether all requests have finished."""
        self._told_to_go_on.clear()
        try:
            self._step(Event.PAUSE if self._pause else Event.CONVERGED)
        except UndrainedError as error:
            log.warning("migration: %s", error)
            return False
        if self._pause:
            while not self._told_to_go_on.wait(PAUSE_CHECK_SECONDS):
                link.check()
                self._sender.show_life()
            self._step(Event.CONTINUE)
        return True

    def _finish(
        self, link: Link, convergence: Convergence, running: bool, limit: TimeLimit
    ) -> Prepared | None:
        """Send the rest and FINISH; return the destination's PREPARED, or None if it is late."""
        self._sender.writer.raw(section_end())
        expected = self._sender.writer.finish(running)
        self._sender.expect(Type.PREPARED)
        self._sender.end_part()
        convergence.flush_drives()  # while the destination flushes, so that the release is fast
        try:
            answer = link.wait_for(Type.PREPARED, timeout=limit.left)
        except LateAnswerError:
            return None
        if answer.prepared != expected:
            raise LinkError("the digest of the data received by the destination differs from the source's")
        return Prepared(expected[1], running)

    def _let_guests_on(self) -> None:
        """Continue the guests, which were paused too long. TimeLimit calls it on its own thread."""
        if not self._states.try_step(Event.OVERDUE):
            return
        progress = self._progress
        progress.gates_closed = None
        progress.overdue += 1
        log.warning(
            "migration: the switchover took longer than %g s: guests continue (attempt %d of %d)",
            self._seconds,
            progress.overdue,
            MAX_ATTEMPTS,
        )
        if self.failure is not None and self._sender.link is not None:
            self._sender.link.abort()
