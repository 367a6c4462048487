"""What a disk's users have read and written: counters of one thread each, summed when somebody asks."""

from __future__ import annotations

import threading
import time

FIGURES = (
    *("rd_bytes", "wr_bytes", "unmap_bytes"),
    *("rd_operations", "wr_operations", "flush_operations", "unmap_operations"),
    *("failed_rd_operations", "failed_wr_operations", "failed_flush_operations", "failed_unmap_operations"),
    *("rd_total_time_ns", "wr_total_time_ns", "flush_total_time_ns", "unmap_total_time_ns"),
)
"""The names of BlockDeviceStats (qapi/block-core.json); times are in nanoseconds."""


class Counters:
    """The figures of one user of a disk. Written by one thread; other readers may be a bit behind."""

    __slots__ = (*FIGURES, "last_ns")

    def __init__(self) -> None:
        for name in FIGURES:
            setattr(self, name, 0)
        self.last_ns = 0
        """When the last request ended, by ``time.monotonic_ns``; 0 before the first."""

    rd_bytes: int
    wr_bytes: int
    unmap_bytes: int
    rd_operations: int
    wr_operations: int
    flush_operations: int
    unmap_operations: int
    failed_rd_operations: int
    failed_wr_operations: int
    failed_flush_operations: int
    failed_unmap_operations: int
    rd_total_time_ns: int
    wr_total_time_ns: int
    flush_total_time_ns: int
    unmap_total_time_ns: int

    def count_read(self, length: int, started_ns: int) -> None:
        """A read of ``length`` bytes is done that began at ``started_ns``."""
        self.rd_operations += 1
        self.rd_bytes += length
        self.last_ns = now = time.monotonic_ns()
        self.rd_total_time_ns += now - started_ns

    def count_write(self, length: int, started_ns: int) -> None:
        """The same for a write, of data or zeros."""
        self.wr_operations += 1
        self.wr_bytes += length
        self.last_ns = now = time.monotonic_ns()
        self.wr_total_time_ns += now - started_ns

    def count_discard(self, length: int, started_ns: int) -> None:
        """The same for a discard."""
        self.unmap_operations += 1
        self.unmap_bytes += length
        self.last_ns = now = time.monotonic_ns()
        self.unmap_total_time_ns += now - started_ns

    def count_flush(self, started_ns: int) -> None:
        """The same for a flush."""
        self.flush_operations += 1
        self.last_ns = now = time.monotonic_ns()
        self.flush_total_time_ns += now - started_ns

    def add(self, other: Counters) -> None:
        """Take over what ``other`` has counted."""
        for name in FIGURES:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_ns = max(self.last_ns, other.last_ns)


class Accounts:
    """All that was ever counted for one disk. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = Counters()
        self._open: set[Counters] = set()

    def open(self) -> Counters:
        """Counters for one thread, until it gives them to ``close``."""
        counters = Counters()
        with self._lock:
            self._open.add(counters)
        return counters

    def close(self, counters: Counters) -> None:
        """Keep what was counted; the thread counts no more."""
        with self._lock:
            self._open.remove(counters)
            self._closed.add(counters)

    def total(self) -> Counters:
        """The sum over all users, gone ones included."""
        total = Counters()
        with self._lock:
            for counters in (self._closed, *self._open):
                total.add(counters)
        return total
