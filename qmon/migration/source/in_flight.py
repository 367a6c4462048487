"""The batches that a source has sent and the destination has not confirmed."""

from __future__ import annotations

from collections import deque

MAX_BATCHES = 1 << 16
"""The most unconfirmed batches. With a real destination the sockets' buffers hold fewer."""


class InFlight:
    """Counts in bytes. One thread sends, another confirms; each counter is written by one of them."""

    def __init__(self) -> None:
        self._batches: deque[tuple[int, int]] = deque()
        """The last sequence number and the size of each batch that is not confirmed."""
        self.sent = self.applied = 0
        self.sent_sequence = self.applied_sequence = -1
        """The last records that were sent and confirmed, -1 before the first."""

    @property
    def size(self) -> int:
        """Bytes that are sent and not yet confirmed as applied."""
        return self.sent - self.applied

    @property
    def is_full(self) -> bool:
        """Whether so many batches are not confirmed that no more should be sent."""
        return len(self._batches) >= MAX_BATCHES

    def add(self, sequence: int, size: int) -> None:
        """Note a batch before it is sent: its confirmation may arrive at once."""
        self.sent_sequence = sequence
        self._batches.append((sequence, size))
        self.sent += size

    def confirm(self, sequence: int) -> bool:
        """Note that all records up to ``sequence`` are applied; return False if that can't be."""
        if not self.applied_sequence < sequence <= self.sent_sequence:
            return False
        self.applied_sequence = sequence
        while self._batches and self._batches[0][0] <= sequence:
            self.applied += self._batches.popleft()[1]
        return True

    def confirm_all(self) -> None:
        """Note that nobody confirms what was sent so far."""
        self.applied, self.applied_sequence = self.sent, self.sent_sequence
        self._batches.clear()
