"""The source's part in a trial: it asks the destination what it would refuse, and measures the line.

Nothing is migrated: guests go on, no dirty map is installed, and nothing is recorded.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from qmon.errors import QmonError
from qmon.migration.drive import MigratingDrive, flushing
from qmon.migration.parameters import Parameters
from qmon.migration.patience import Patience
from qmon.migration.progress import Progress
from qmon.migration.source.agreement import Signs
from qmon.migration.source.amount import Estimate
from qmon.migration.source.errors import LinkError
from qmon.migration.source.link import STALL_TIMEOUT, Link
from qmon.migration.source.opening import Route
from qmon.migration.source.options import Options
from qmon.migration.source.plan import THOROUGH, plan
from qmon.migration.source.sender import Sender
from qmon.migration.source.shared import SharedDisks
from qmon.migration.wire.answers import Type
from qmon.migration.wire.offer import Mode, Offer
from qmon.migration.wire.report import Report
from qmon.migration.wire.stream import PREAMBLE, section_start

REPORT_SECONDS = 90
"""Within this time the destination must report; it compares contents for a minute at most."""

LEAST_WINDOW = 128 << 10
WINDOW_SECONDS = 0.5
"""So much may be unconfirmed while the line is measured: a slow line must not be full for long after it."""

LEAST_PIECE, LARGEST_PIECE = 16 << 10, 512 << 10

_ANSWERS = (Type.REPORT, Type.BUSY)


@dataclass(frozen=True, slots=True)
class Result:
    """What a trial has found; the rates in bytes per second, None if they were not measured."""

    report: Report
    mode: Mode
    to_send: dict[str, int]
    """The likely bytes of data of each drive that would be copied."""
    rate: float | None = None
    write_rates: dict[str, float] | None = None
    """What guests write, by drive that would be copied."""


class Trial:
    """One trial. ``run`` blocks; any thread may call ``cancel``.

    ``written`` returns how many bytes guests have written so far, by drive.
    """

    def __init__(
        self,
        route: Route,
        options: Options,
        drives: Sequence[MigratingDrive],
        parameters: Parameters,
        written: Callable[[], dict[str, int]],
        patience: Patience,
    ) -> None:
        self._id = uuid4()
        self._route = route
        self._options = options
        self._drives = list(drives)
        self._parameters = parameters
        self._written = written
        self._probe_seconds = patience.probe
        self._cancelled = threading.Event()
        self._progress = Progress()
        self._sender = Sender(
            parameters,
            self._progress,
            check=self._check,
            unsent=lambda: 0,
            is_limited=lambda: True,
            observe=lambda: None,
            sign_seconds=patience.sign,
        )

    def cancel(self) -> None:
        """Make ``run`` end with an error."""
        self._cancelled.set()
        self._sender.abort()

    def run(self) -> Result:
        """Ask, and measure if nothing would be refused. Raises QmonError, OSError if there is no thread."""
        verify = self._parameters.verify_backing
        verify = "sample" if verify == "full" else verify  # a trial is short
        offers, _, estimates = plan(self._drives, self._options.mode, verify, self._id, self._check, THOROUGH)
        try:
            link = self._sender.connect(self._route, self._check)
            report = self._ask(link, self._options.offer(self._id, offers))
            to_send = self._to_send(estimates, report)
            if report.mismatches:
                return Result(report, self._options.mode, to_send)
            if self._options.mode is Mode.SHARED:
                return self._compare(link, report)
            return self._measure(link, report, to_send)
        except QmonError:
            self._check()
            raise
        finally:
            self._sender.close()

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise QmonError("the trial was cancelled")

    def _ask(self, link: Link, offer: Offer) -> Report:
        writer = self._sender.writer
        writer.raw(PREAMBLE + section_start())
        writer.trial(offer.encode())
        self._sender.expect(*_ANSWERS)
        self._sender.end_part()
        link.need_answers(STALL_TIMEOUT)
        signs = Signs()
        while (answer := link.wait_for(*_ANSWERS)).type is not Type.REPORT:
            signs.note_busy()
            if signs.seconds > REPORT_SECONDS:
                raise LinkError(f"the destination has not answered the trial within {REPORT_SECONDS} s")
        report = Report.decode(answer.body)
        lacking = [offer.drives[index] for index in report.needed if index < len(offer.drives)]
        if len(lacking) < len(report.needed) or any(drive.content is None for drive in lacking):
            raise LinkError("the destination asked for a drive that was not offered for a copy")
        return report

    def _to_send(self, estimates: dict[int, Estimate], report: Report) -> dict[str, int]:
        return {
            drive.id: estimates[index].likely
            for index, drive in enumerate(self._drives)
            if index in estimates and (not drive.read_only or index in report.needed)
        }

    def _compare(self, link: Link, report: Report) -> Result:
        """Find out whether both sides see the same disks, as a migration without a copy does."""
        disks = SharedDisks(self._drives, self._sender, link, random.Random(self._id.int))
        try:
            disks.prove(self._flush)
        except LinkError:
            raise
        except QmonError as error:
            report = Report((str(error),), report.warnings)
        return Result(report, self._options.mode, {})

    def _flush(self) -> None:
        for drive in self._drives:
            if not drive.read_only:
                with flushing(drive):
                    drive.node.flush()

    def _measure(self, link: Link, report: Report, to_send: dict[str, int]) -> Result:
        """Send data that the destination throws away, and count what guests write meanwhile."""
        noise = memoryview(os.urandom(LARGEST_PIECE))  # a line that compresses must not help
        written, begun = self._written(), time.monotonic()
        while (passed := time.monotonic() - begun) < self._probe_seconds:
            window = max(LEAST_WINDOW, int(self._progress.rate * WINDOW_SECONDS))
            if link.in_flight >= window:
                link.wait_applied(0.05)
                self._check()
                continue
            piece = max(LEAST_PIECE, min(LARGEST_PIECE, window // 4, self._sender.slice_size()))
            self._sender.begin_part()
            self._sender.writer.probe(noise[:piece])
            self._sender.end_part()
        rates = {
            name: max(0, after - written.get(name, 0)) / passed
            for name, after in self._written().items()
            if name in to_send
        }
        return Result(report, self._options.mode, to_send, self._progress.rate, rates)
