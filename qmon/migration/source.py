"""The source's side of a migration: one data thread that goes through the states of ``states.SOURCE``."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence

from qmon.address import Address, connect
from qmon.errors import CommandError, QmonError, reason
from qmon.migration.answers import Type
from qmon.migration.copy import DriveCopy
from qmon.migration.drive import GATE_REASON, MigratingDrive
from qmon.migration.link import STALL_TIMEOUT, Link, LinkError, PeerRefusedError
from qmon.migration.offer import DriveOffer, Mode, Offer
from qmon.migration.parameters import Parameters
from qmon.migration.progress import Progress
from qmon.migration.states import ENDED, SOURCE, Event, Phase, StateMachine
from qmon.migration.stream import (
    BATCH_SIZE,
    RecordWriter,
    go,
    preamble,
    section_end,
    section_footer,
    section_part,
    section_start,
)

log = logging.getLogger("qmon.migration")

CONNECT_TIMEOUT = 10
DRAIN_TIMEOUT = 10
"""Seconds that requests inside a gate get to finish, before the migration fails and the source runs on."""

PREPARED_TIMEOUT = 10
"""Seconds without PREPARED, the machine standing still, after which the source runs on."""

FLUSH_TIMEOUT = 600
"""Seconds that the destination gets to flush while the machine runs."""

MAX_FLUSHES = 5
"""How often a destination is made to flush for the last flush to be short: each has less to do."""

PROGRESS_INTERVAL = 0.2
SLICE_SECONDS = 0.05
MIN_SLICE = 4 << 10
"""A slice is a multiple of it. So at 1 KiB a second the destination hears something every four seconds."""


class CancelledError(QmonError):
    """The migration was cancelled here."""


class Source:
    """A migration to ``address``. Made and asked on the loop; it works on threads of its own.

    ``on_phase`` is called on its thread at each change; ``is_running`` says whether the machine ran when the
    gates closed. Every public call returns at once.
    """

    def __init__(
        self,
        address: Address,
        mode: Mode,
        drives: Sequence[MigratingDrive],
        parameters: Parameters,
        on_phase: Callable[[Phase], None],
        is_running: Callable[[], bool],
    ) -> None:
        self.id = uuid.uuid4()
        self.mode = mode
        self._address = address
        self._drives = list(drives)
        self._parameters = parameters
        self._is_running = is_running
        self._states = StateMachine(SOURCE, on_phase)
        self._copies: list[DriveCopy] = []
        self._writer = RecordWriter()
        self._link: Link | None = None
        self._progress_sent = 0.0
        self.progress = Progress()
        self._thread = threading.Thread(target=self._run, name="migration-source", daemon=True)

    @property
    def phase(self) -> Phase:
        return self._states.phase

    @property
    def drive_figures(self) -> list[tuple[str, int, int]]:
        """Of each drive that travels: its id, bytes still to be sent, and size."""
        return [(copy.drive.id, copy.remaining, copy.drive.size) for copy in list(self._copies)]

    def start(self) -> None:
        """Begin; the phase is ``setup`` when this returns."""
        self._states.step(Event.START)
        self._thread.start()

    def cancel(self) -> None:
        """Cancel, if GO has not been sent; a migration that has ended is left as it is.

        Raises CommandError after GO.
        """
        if self._states.try_step(Event.CANCEL):
            if self._link is not None:
                self._link.abort()
        elif self.phase not in ENDED and self.phase is not Phase.CANCELLING:
            raise CommandError(
                "The migration can't be cancelled any more: the destination has been told to run"
            )

    def join(self, timeout: float | None = None) -> bool:
        """Wait until its threads have ended; say whether they have."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._migrate()
        except (OSError, QmonError) as error:
            self._end(reason(error))
        except Exception as error:
            log.exception("the migration failed by a fault of qmon's own")
            self._end(f"internal error: {error!r}")
        finally:
            if self._link is not None:
                self._link.close()

    def _migrate(self) -> None:
        link = self._connect()
        self._agree(link)
        self._copy(link)
        self._switch_over(link)

    def _check(self) -> None:
        if self.phase is Phase.CANCELLING:
            raise CancelledError("the migration was cancelled")

    def _connect(self) -> Link:
        try:
            sock = connect(self._address, CONNECT_TIMEOUT, self._check)
        except OSError as error:
            raise LinkError(f"Failed to connect to '{self._address}': {reason(error)}") from error
        self._link = Link(sock, self.progress)
        self._check()
        return self._link

    def _agree(self, link: Link) -> None:
        offer = Offer(
            self.id,
            self.mode,
            tuple(DriveOffer(drive.id, drive.size, drive.read_only) for drive in self._drives),
        )
        if self.mode is not Mode.SHARED:
            self._copies = [
                DriveCopy(index, drive) for index, drive in enumerate(self._drives) if not drive.read_only
            ]
        self.progress.total = sum(copy.drive.size for copy in self._copies)
        self._writer.raw(preamble() + section_start())
        self._writer.hello(offer.encode())
        self._close_part()
        self._send()
        by_index = {copy.index: copy for copy in self._copies}
        while (answer := link.wait_for(Type.ZEROS, Type.AGREED)).type is Type.ZEROS:
            index, ranges = answer.zeros
            if index not in by_index:
                raise LinkError(f"the destination spoke of drive {index}, which does not travel")
            for offset, length in ranges:
                by_index[index].known_zeros.add(offset, length)
        self._track()
        self.progress.agreed = time.monotonic()
        self._step(Event.AGREED)

    def _track(self) -> None:
        """From here on every write is seen."""
        for copy in self._copies:
            self._close_gate(copy.drive)
            try:
                copy.install()
            finally:
                copy.drive.gate.open(GATE_REASON)
        self.progress.remaining = self._dirty_bytes()

    def _copy(self, link: Link) -> None:
        """Rounds through what is dirty, until what is left fits into the downtime limit."""
        if self.mode is Mode.SHARED:
            for drive in self._drives:
                if not drive.read_only:
                    drive.node.flush()  # while the machine runs, so that the last flush is short
            return
        flushes = 0
        flush_seconds = 0.0
        while True:
            self._round()
            expected = self._expected_downtime(link)
            if expected is None or not self._fits(expected):
                if not self._dirty_bytes():
                    link.wait_applied(0.01)
            elif flushes and (self._fits(expected + flush_seconds) or flushes == MAX_FLUSHES):
                return
            else:
                flush_seconds = self._flush_destination(link)
                flushes += 1

    def _round(self) -> None:
        self._writer.raw(section_part())
        for copy in self._copies:
            copy.send_dirty(self)
        self._close_part()
        self._send()
        self.progress.rounds += 1

    def _expected_downtime(self, link: Link) -> float | None:
        """Seconds in which what is dirty or on its way can arrive, None while nobody can tell."""
        left = self._dirty_bytes() + link.in_flight
        if not left:
            expected = 0.0
        elif self.progress.rate:
            expected = left / self.progress.rate
        else:
            return None
        self.progress.expected_downtime = expected
        return expected

    def _fits(self, seconds: float) -> bool:
        return seconds * 1000 <= self._parameters.downtime_limit_ms

    def _flush_destination(self, link: Link) -> float:
        """Have the destination flush while the machine runs; return how many seconds it took."""
        begun = time.monotonic()
        self._writer.raw(section_part())
        self._writer.flush()
        self._close_part()
        self._send()
        link.wait_for(Type.FLUSHED, timeout=FLUSH_TIMEOUT)
        return time.monotonic() - begun

    def _switch_over(self, link: Link) -> None:
        self._step(Event.CONVERGED)
        running = self._is_running()
        self.progress.gates_closed = time.monotonic()
        for drive in self._drives:
            self._close_gate(drive)
        self._writer.raw(section_end())
        for copy in self._copies:
            copy.send_dirty(self)
        expected = self._writer.finish(running)
        self._close_part()
        self._send()
        if link.wait_for(Type.PREPARED, timeout=PREPARED_TIMEOUT).prepared != expected:
            raise LinkError("the destination's digest of what came is not that of what was sent")
        for copy in self._copies:
            copy.uninstall()
        # Shared storage is read by the other side as it is flushed here; a copy is complete over there.
        for drive in self._drives:
            drive.deactivate(flush=self.mode is Mode.SHARED)
        self._step(Event.PREPARED)
        # The point of no return: whoever cancels does so before this step or not at all.
        self._step(Event.GO)
        self._writer.raw(go(self.id.bytes, expected[1]))
        self._send()
        try:
            link.wait_for(Type.RUNNING, timeout=STALL_TIMEOUT)
        except PeerRefusedError as refused:
            self.progress.error = f"the destination refused to run: {refused}"
            self._take_back(Event.REFUSED)
            return
        self.progress.remaining = 0
        self._note_end()
        for drive in self._drives:
            drive.gate.shut()
        self._states.step(Event.RUNNING)

    def _step(self, event: Event) -> None:
        """Move on, unless the migration was cancelled at that very moment."""
        if not self._states.try_step(event):
            self._check()
            self._states.step(event)

    def _close_gate(self, drive: MigratingDrive) -> None:
        if not drive.gate.close(GATE_REASON, DRAIN_TIMEOUT):
            raise QmonError(f"drive '{drive.id}': a request did not finish within {DRAIN_TIMEOUT} s")

    def _close_part(self) -> None:
        self._writer.end()
        self._writer.raw(section_footer())

    # The copies' outlet, on the migration's thread.

    @property
    def writer(self) -> RecordWriter:
        return self._writer

    def slice_size(self) -> int:
        """Little at a low bandwidth, so that neither side waits long."""
        limit = self._parameters.max_bandwidth
        if not limit or self.phase is not Phase.ACTIVE:
            return BATCH_SIZE
        return min(BATCH_SIZE, max(1, int(limit * SLICE_SECONDS) // MIN_SLICE) * MIN_SLICE)

    def _limit(self) -> int:
        """Bytes a second, 0 for no limit: while the machine stands still nothing holds the sender back."""
        return self._parameters.max_bandwidth if self.phase is Phase.ACTIVE else 0

    def _send(self) -> None:
        self._check()
        link, writer = self._link, self._writer
        assert link is not None
        if not writer.buffers:
            return
        unsent = sum(copy.remaining for copy in self._copies)
        self.progress.remaining = min(unsent + writer.size + link.in_flight, self.progress.total)
        link.send(writer.buffers, writer.size, writer.next_sequence - 1, self._limit)
        writer.clear()

    def send(self) -> None:
        """Send what was gathered within a part."""
        self._send()
        now = time.monotonic()
        if now - self._progress_sent > PROGRESS_INTERVAL:
            self._progress_sent = now
            self._writer.progress(self.progress.remaining)

    def _dirty_bytes(self) -> int:
        return sum(copy.dirty.dirty_bytes for copy in self._copies)

    def _note_end(self) -> None:
        self.progress.ended = time.monotonic()
        if self.progress.gates_closed is not None:
            self.progress.downtime = self.progress.ended - self.progress.gates_closed

    def _end(self, why: str) -> None:
        """Something went wrong: run on before GO, stand still after it."""
        if self.phase is Phase.GONE:
            self.progress.error = (
                f"it is not known whether the destination runs: {why}."
                " This side stands still; ask the other side before anything else"
            )
            log.error("migration: %s", self.progress.error)
            self._states.step(Event.LOST)
            return
        if self.phase is not Phase.CANCELLING:
            self.progress.error = why
        self._take_back(Event.FAIL)

    def _take_back(self, event: Event) -> None:
        """The machine runs on here, as far as its drives can be had; ``event`` ends the migration."""
        try:
            self._run_on()
        except OSError as error:
            why = self.progress.error or "the migration was cancelled"
            self.progress.error = f"{why}; then a drive could not be opened again: {reason(error)}"
            log.error("%s", self.progress.error)
        self._note_end()
        self._states.step(event)

    def _run_on(self) -> None:
        """Give the drives back to the machine as they were. Raises OSError when an image can't be had."""
        for copy in self._copies:
            copy.uninstall()
        try:
            for drive in self._drives:
                drive.activate()
        finally:
            # What could not be opened answers its requests with an error; to hold them would hide it.
            for drive in self._drives:
                drive.gate.open(GATE_REASON)
