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


class Done:
    """Reads and writes that went on at the same time and have ended: their number, bytes and nanoseconds."""

    __slots__ = ("longest_ns", "read_bytes", "read_ns", "reads", "write_ns", "writes", "written_bytes")

    def __init__(self) -> None:
        self.reads = self.read_bytes = self.read_ns = 0
        self.writes = self.written_bytes = self.write_ns = 0
        self.longest_ns = 0

    def read(self, length: int, taken_ns: int) -> None:
        """Add a read of so many bytes."""
        self.reads += 1
        self.read_bytes += length
        self.read_ns += taken_ns
        if taken_ns > self.longest_ns:
            self.longest_ns = taken_ns

    def write(self, length: int, taken_ns: int) -> None:
        """Add a write of so many bytes."""
        self.writes += 1
        self.written_bytes += length
        self.write_ns += taken_ns
        if taken_ns > self.longest_ns:
            self.longest_ns = taken_ns


class Counters:
    """The counters of one user of a disk. One thread writes them; other threads may read older values."""

    __slots__ = (*FIGURES, "last_ns", "longest_ns")

    def __init__(self) -> None:
        for name in FIGURES:
            setattr(self, name, 0)
        self.last_ns = 0
        """The time when the last request ended, by ``time.monotonic_ns``; 0 before the first one."""
        self.longest_ns = 0
        """The longest time that a request took since ``Accounts.take_longest_ns``."""

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

    def count_batch(
        self, reads: int, read_bytes: int, writes: int, written_bytes: int, started_ns: int
    ) -> None:
        """Count finished reads and writes that were served one after another from ``started_ns`` on."""
        self.last_ns = now = time.monotonic_ns()
        taken = now - started_ns
        if taken > self.longest_ns:
            self.longest_ns = taken
        if reads:
            self.rd_operations += reads
            self.rd_bytes += read_bytes
            self.rd_total_time_ns += taken * reads // (reads + writes)
        if writes:
            self.wr_operations += writes
            self.wr_bytes += written_bytes
            self.wr_total_time_ns += taken * writes // (reads + writes)

    def count_done(self, done: Done, now_ns: int) -> None:
        """Count what has ended by ``now_ns``."""
        if done.reads or done.writes:
            self.last_ns = now_ns
        self.rd_operations += done.reads
        self.rd_bytes += done.read_bytes
        self.rd_total_time_ns += done.read_ns
        self.wr_operations += done.writes
        self.wr_bytes += done.written_bytes
        self.wr_total_time_ns += done.write_ns
        if done.longest_ns > self.longest_ns:
            self.longest_ns = done.longest_ns

    def count_read(self, length: int, started_ns: int) -> None:
        """Count a finished read of ``length`` bytes that began at ``started_ns``."""
        self.rd_operations += 1
        self.rd_bytes += length
        self.last_ns = now = time.monotonic_ns()
        self.rd_total_time_ns += (taken := now - started_ns)
        if taken > self.longest_ns:
            self.longest_ns = taken

    def count_write(self, length: int, started_ns: int) -> None:
        """Count a finished write of data or zeros."""
        self.wr_operations += 1
        self.wr_bytes += length
        self.last_ns = now = time.monotonic_ns()
        self.wr_total_time_ns += (taken := now - started_ns)
        if taken > self.longest_ns:
            self.longest_ns = taken

    def count_discard(self, length: int, started_ns: int) -> None:
        """Count a finished discard."""
        self.unmap_operations += 1
        self.unmap_bytes += length
        self.last_ns = now = time.monotonic_ns()
        self.unmap_total_time_ns += (taken := now - started_ns)
        if taken > self.longest_ns:
            self.longest_ns = taken

    def count_flush(self, started_ns: int) -> None:
        """Count a finished flush."""
        self.flush_operations += 1
        self.last_ns = now = time.monotonic_ns()
        self.flush_total_time_ns += (taken := now - started_ns)
        if taken > self.longest_ns:
            self.longest_ns = taken

    def add(self, other: Counters) -> None:
        """Add the counts of ``other`` to these."""
        for name in FIGURES:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_ns = max(self.last_ns, other.last_ns)
        self.longest_ns = max(self.longest_ns, other.longest_ns)


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

    def take_longest_ns(self) -> int:
        """Return the longest time in nanoseconds that a request took since the last call; for one caller.

        Other threads count meanwhile, and no maximum is lost: the interpreter changes threads only at calls
        and jumps, and none is between the reading and resetting here, or the comparing and setting there.
        """
        with self._lock:
            longest = 0
            for counters in (self._closed, *self._open):
                seen, counters.longest_ns = counters.longest_ns, 0
                if seen > longest:
                    longest = seen
        return longest
