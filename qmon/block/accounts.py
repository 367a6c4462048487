"""A disk's I/O statistics: each thread has counters of its own, which are summed for a query."""

from __future__ import annotations

import threading
import time

FIGURES = tuple(
    """
    rd_bytes wr_bytes unmap_bytes
    rd_operations wr_operations flush_operations unmap_operations
    failed_rd_operations failed_wr_operations failed_flush_operations failed_unmap_operations
    rd_total_time_ns wr_total_time_ns flush_total_time_ns unmap_total_time_ns
    """.split()
)
"""Counters named as in BlockDeviceStats (qapi/block-core.json); times are in nanoseconds."""


class Counters:
    """The counters of one user of a disk. One thread writes them; other threads may read older values."""

    __slots__ = (*FIGURES, "last_ns")

    def __init__(self) -> None:
        for name in FIGURES:
            setattr(self, name, 0)
        self.last_ns = 0
        """The time when the last request ended, by ``time.monotonic_ns``; 0 before the first one."""

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
        """Count a finished read of ``length`` bytes that began at ``started_ns``."""
        self.rd_operations += 1
        self.rd_bytes += length
        self.last_ns = now = time.monotonic_ns()
        self.rd_total_time_ns += now - started_ns

    def count_write(self, length: int, started_ns: int) -> None:
        """Count a finished write of data or zeros."""
        self.wr_operations += 1
        self.wr_bytes += length
        self.last_ns = now = time.monotonic_ns()
        self.wr_total_time_ns += now - started_ns

    def count_discard(self, length: int, started_ns: int) -> None:
        """Count a finished discard."""
        self.unmap_operations += 1
        self.unmap_bytes += length
        self.last_ns = now = time.monotonic_ns()
        self.unmap_total_time_ns += now - started_ns

    def count_flush(self, started_ns: int) -> None:
        """Count a finished flush."""
        self.flush_operations += 1
        self.last_ns = now = time.monotonic_ns()
        self.flush_total_time_ns += now - started_ns

    def add(self, other: Counters) -> None:
        """Add the counts of ``other`` to these."""
        for name in FIGURES:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_ns = max(self.last_ns, other.last_ns)


class Accounts:
    """The counters of all present and past users of one disk. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = Counters()
        self._open: set[Counters] = set()

    def open(self) -> Counters:
        """Return new counters for one thread, which must pass them to ``close`` at the end."""
        counters = Counters()
        with self._lock:
            self._open.add(counters)
        return counters

    def close(self, counters: Counters) -> None:
        """Keep the sums of these counters; their thread must not use them any more."""
        with self._lock:
            self._open.remove(counters)
            self._closed.add(counters)

    def total(self) -> Counters:
        """Return the sum over all present and past users."""
        total = Counters()
        with self._lock:
            for counters in (self._closed, *self._open):
                total.add(counters)
        return total
