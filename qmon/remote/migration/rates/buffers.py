"""How much a mirror may have on its way at once (its ``buf-size``). Pure.

A guest's write to a write-blocking disk waits behind all that the mirror has on its way. QEMU's 16 MiB take 4
seconds at 4 MiB/s, and the guest stood still (measured with QEMU 7.2 and 10). The size of a running mirror
can't be changed, so a mirror whose line is slow starts anew while it has copied little.
"""

from __future__ import annotations

from qmon.notation.units import KIB, MIB
from qmon.remote.migration.rates.pace import DiskPace

DEFAULT_BYTES = 16 * MIB
"""QEMU's own, which is never exceeded."""

LEAST_BYTES = 256 * KIB

QUEUE_SECONDS = 0.5
"""The time that a guest's write waits at most behind what is on its way. With half of it the line is idle
between two pieces: 8 % were lost at 4 MiB/s."""

TOO_BIG = 4
"""A buffer is replaced if it is so many times what would do."""

END_SECONDS = 30.0
"""What is on its way arrives before a mirror can start anew: it is not worth a longer wait."""

LITTLE = 4
"""A mirror has copied little while it has sent at most so many times its buffer."""


def fitting(rate: float) -> int:
    """Return the bytes for a line that takes ``rate`` bytes per second; 0: it is not known."""
    size = DEFAULT_BYTES
    while rate and size > max(rate * QUEUE_SECONDS, LEAST_BYTES):
        size //= 2
    return size


class Buffers:
    """The sizes for some mirrors, by their jobs' ids. ``limit`` is what each may send at first; 0: all."""

    def __init__(self, disks: list[DiskPace], limit: float) -> None:
        self._sizes = {disk.job: fitting(limit) for disk in disks}
        self._is_settled: set[str] = set()

    def size(self, job: str) -> int:
        """Return the size with which a mirror starts."""
        return self._sizes[job]

    def refit(self, disk: DiskPace) -> bool:
        """Return whether a mirror in background mode should start anew, with another size."""
        size = self._sizes[disk.job]
        if disk.is_ready or disk.last.sent > size * LITTLE:
            self._is_settled.add(disk.job)
        if disk.job in self._is_settled or not disk.capacity:
            return False
        wanted = fitting(disk.capacity)
        is_quick = size / disk.capacity <= END_SECONDS
        if wanted * TOO_BIG > size or disk.last.left <= size or not is_quick:
            return False
        self._is_settled.add(disk.job)
        self._sizes[disk.job] = wanted
        return True

    def fit(self, disk: DiskPace) -> None:
        """Take the size that fits now, as the mirror starts anew in any case."""
        if disk.capacity:
            self._sizes[disk.job] = fitting(disk.capacity)
