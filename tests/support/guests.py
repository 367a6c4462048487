"""Guests of a disk that may move, and their memory of what it must hold."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.guest import Guest
from tests.support.waiting import eventually

SECTOR = 512
FOREVER = 600.0
"""Seconds that a guest waits for one answer: like a kernel it does not give up a request that is held."""

EXPECTED_ERRORS = frozenset({errno.ESHUTDOWN, None})
"""With which a request may end: the disk has moved, or the connection ended without a number."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write as it was acknowledged; ``side`` is 0 for the source, 1 for the destination."""

    sequence: int
    when: float
    side: int
    offset: int
    length: int


class Ledger:
    """What a disk must hold: every acknowledged write, and for one without an answer either content."""

    def __init__(self, content: bytes) -> None:
        self._content = bytearray(content)
        self._perhaps: dict[int, list[bytes]] = {}
        self._pending: tuple[int, bytes] | None = None
        self.writes: list[Write] = []

    def begin(self, offset: int, data: bytes) -> None:
        """A write is sent: until its answer comes each of its sectors may be as before or as after."""
        self._pending = (offset, data)
        for start in range(0, len(data), SECTOR):
            self._perhaps.setdefault(offset + start, []).append(data[start : start + SECTOR])

    def acknowledge(self, side: int) -> None:
        """The write that was sent last has been acknowledged."""
        assert self._pending is not None
        offset, data = self._pending
        self._pending = None
        self._content[offset : offset + len(data)] = data
        for start in range(offset, offset + len(data), SECTOR):
            self._perhaps.pop(start, None)
        self.writes.append(Write(len(self.writes), time.monotonic(), side, offset, len(data)))

    def wrong(self, disk: bytes) -> list[str]:
        """A line for each sector of ``disk`` that is neither what it must nor what it may be."""
        if len(disk) != len(self._content):
            return [f"the disk has {len(disk)} bytes, not {len(self._content)}"]
        return [
            f"sector {start // SECTOR}: {self._last(start)}"
            for start in range(0, len(disk), SECTOR)
            if disk[start : start + SECTOR] != self._content[start : start + SECTOR]
            and disk[start : start + SECTOR] not in self._perhaps.get(start, ())
        ]

    def _last(self, sector: int) -> str:
        for write in reversed(self.writes):
            if write.offset <= sector < write.offset + write.length:
                return f"last written by {write}"
        return "never written"


class Writer:
    """Writes random runs of sectors one by one; asks the source, and where that is no use the destination.

    While ``ready`` is not set it opens no connection: somebody is about to restart a side.
    """

    def __init__(
        self,
        exports: Sequence[Path],
        drive: str,
        content: bytes,
        ready: threading.Event,
        seed: int,
        pause: float = 0.001,
        *,
        flush: bool = False,
        expected: frozenset[int | None] = EXPECTED_ERRORS,
    ) -> None:
        """With ``flush`` a write counts as acknowledged when it has been flushed, too.

        ``expected`` are errors with which a write may end.
        """
        self._expected = expected
        self.ledger = Ledger(content)
        self.errors: list[str] = []
        """Answers that no guest should get."""
        self.longest_wait = 0.0
        """Seconds until a write was acknowledged, at most."""
        self._exports = exports
        self._drive = drive
        self._size = len(content)
        self._ready = ready
        self._chance = random.Random(seed)
        self._pause = pause
        self._flush = flush
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"writer-{drive}")

    @property
    def acknowledged(self) -> int:
        return len(self.ledger.writes)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the write that is under way; returns at once."""
        self._stop.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end; say whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _draw(self) -> tuple[int, bytes]:
        sectors = self._chance.choice([1, 8, 8, 8, 32])
        offset = self._chance.randrange(self._size // SECTOR - sectors + 1) * SECTOR
        return offset, self._chance.randbytes(sectors * SECTOR)

    def _run(self) -> None:
        request: tuple[int, bytes] | None = None
        side = 0
        while not self._stop.is_set():
            if not self._ready.wait(0.05):
                side = 0
                continue
            try:
                with Guest(self._exports[side], self._drive, FOREVER) as guest:
                    while not self._stop.is_set():
                        request = request or self._draw()
                        self.ledger.begin(*request)
                        begun = time.monotonic()
                        guest.write(*request)
                        self.longest_wait = max(self.longest_wait, time.monotonic() - begun)
                        if self._flush:
                            guest.flush()
                        self.ledger.acknowledge(side)
                        request = None
                        self._stop.wait(self._pause)
            except OSError as error:
                if request is not None and error.errno not in self._expected | _CONNECTION_ERRORS:
                    self.errors.append(f"a write at {request[0]} was answered: {error}")
                side ^= 1
                self._stop.wait(0.01)


_CONNECTION_ERRORS = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ENOENT, errno.ENOTCONN}
)


class WritingGuest:
    """Writes random runs of sectors all the time; when its disk has moved, it goes on at the next export.

    It writes where ``content`` lies, from ``base`` on, and waits ``pause`` seconds behind each write.
    """

    def __init__(self, exports: Sequence[Path], content: bytes, base: int = 0, pause: float = 0.0) -> None:
        self._exports = list(exports)
        self._base = base
        self._pause = pause
        self._chance = random.Random(base)
        self.content = bytearray(content)
        """What the disk holds, by what was acknowledged."""
        self.acknowledged = self.written = 0
        """Writes and bytes."""
        self.longest = 0.0
        """Seconds that a write has waited for its answer, at most."""
        self.moved_with: list[int | None] = []
        """The errno with which each export was left, None for a closed connection."""
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> WritingGuest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._write()
        except BaseException as error:  # noqa: BLE001 - told in the main thread, whatever it is
            self.error = error

    def _write(self) -> None:
        guest = Guest(self._exports.pop(0), "d0")
        sectors = len(self.content) // 512
        while not self._stop.is_set():
            count = self._chance.randint(1, 64)
            start = self._chance.randrange(sectors - count + 1) * 512
            data = self._chance.randbytes(count * 512)
            begun = time.monotonic()
            try:
                guest.write(self._base + start, data)
            except OSError as error:
                if not self._exports:
                    raise
                is_closed = error.errno in (errno.EPIPE, errno.ECONNRESET)
                self.moved_with.append(None if is_closed else error.errno)
                guest.close()
                guest = Guest(self._exports.pop(0), "d0")
                guest.write(self._base + start, data)
            self.longest = max(self.longest, time.monotonic() - begun)
            self.content[start : start + len(data)] = data
            self.acknowledged += 1
            self.written += len(data)
            self._stop.wait(self._pause)
        guest.close()

    def wait_for(self, more: int) -> None:
        """Wait until so many more writes are acknowledged."""
        wanted = self.acknowledged + more
        eventually(
            lambda: self.acknowledged >= wanted or self.error, f"{more} more writes, error: {self.error!r}"
        )
        assert self.error is None


class Probe:
    """Reads a sector again and again from one side, and notes when it was served: the side runs then."""

    def __init__(self, export: Path, drive: str, pause: float = 0.01) -> None:
        self.served: list[tuple[float, float]] = []
        """When each read that was served was sent, and when its answer came."""
        self._export = export
        self._drive = drive
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the read that is under way; returns at once."""
        self._stop.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with Guest(self._export, self._drive, FOREVER) as guest:
                    while not self._stop.is_set():
                        sent = time.monotonic()
                        guest.read(0, SECTOR)
                        self.served.append((sent, time.monotonic()))
                        self._stop.wait(self._pause)
            except OSError:  # refused, or gone: ask again until somebody serves
                self._stop.wait(self._pause)


def overlap(source: Probe, target: Probe) -> str | None:
    """Whether the source served a read that was sent after the destination had served one."""
    if not target.served:
        return None
    first = target.served[0][1]
    late = [sent for sent, _ in source.served if sent > first]
    if not late:
        return None
    return f"both sides ran: the source served {len(late)} reads after the destination had served one"
