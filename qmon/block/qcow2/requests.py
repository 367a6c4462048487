"""Counts running requests: a freed cluster is reused only when no request can still use it."""

from __future__ import annotations


class Requests:
    """Counts requests by the epoch in which they began. Not thread-safe: callers hold the image's lock."""

    def __init__(self) -> None:
        self.epoch = 0
        self._inside: dict[int, int] = {}

    def enter(self) -> int:
        """Begin a request; return its epoch, which must be passed to ``leave``."""
        epoch = self.epoch
        self._inside[epoch] = self._inside.get(epoch, 0) + 1
        return epoch

    def leave(self, epoch: int) -> None:
        left = self._inside[epoch] - 1
        if left:
            self._inside[epoch] = left
        else:
            del self._inside[epoch]

    def begin_epoch(self) -> int:
        """Begin a new epoch; return the one before it."""
        self.epoch += 1
        return self.epoch - 1

    def are_over(self, epoch: int) -> bool:
        """Whether every request that began in ``epoch`` or before has ended."""
        return all(inside > epoch for inside in self._inside)
