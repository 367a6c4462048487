"""A forwarded request that a thread waits for, and the waiting."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence

from qmon.block.node import Buffer
from qmon.migration.wire.forward import MAX_BYTES, MAX_REQUESTS, Operation

PIECE_REQUESTS, PIECE_BYTES = MAX_REQUESTS // 4, MAX_BYTES // 4
"""What one thread sends at once."""


class Request:
    """The range in bytes, and what is written or where a READ puts its bytes.

    When it has ended, ``error`` says why it has failed, and ``answer`` is the data of an EXTENTS.
    """

    __slots__ = ("answer", "data", "error", "flags", "is_over", "length", "offset", "operation", "wake")

    def __init__(
        self, operation: Operation, offset: int = 0, length: int = 0, flags: int = 0, data: Buffer = b""
    ) -> None:
        self.operation = operation
        self.offset = offset
        self.length = length
        self.flags = flags
        self.data = data
        self.wake: Callable[[], None] = _nobody
        self.is_over = False
        self.error: OSError | None = None
        self.answer = b""

    @property
    def weight(self) -> int:
        """The bytes of data that it and its reply carry, as far as they are known."""
        return len(self.data)

    @property
    def expected(self) -> int | None:
        """The bytes of data of its reply; None if that is not known."""
        if self.operation == Operation.EXTENTS:
            return None
        return self.length if self.operation == Operation.READ else 0

    def fill(self, data: memoryview) -> None:
        """Take the data of the reply."""
        if self.operation == Operation.READ:
            assert isinstance(self.data, memoryview)
            self.data[:] = data
        else:
            self.answer = bytes(data)

    def end(self, error: OSError | None = None) -> None:
        """Tell that it has ended. For any thread, once."""
        self.error = error
        self.is_over = True
        self.wake()


class Waiter:
    """A thread that waits for its requests. ``wake`` lets it look again: it may receive, or one has ended."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = requests
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        for request in requests:
            request.wake = self.wake

    @property
    def is_over(self) -> bool:
        """Whether all have ended."""
        return all(request.is_over for request in self._requests)

    def wake(self) -> None:
        """Let the thread look again. For any thread."""
        self._woken.put(None)

    def wait(self) -> None:
        """Wait until ``wake`` is called."""
        self._woken.get()


def pieces(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Yield runs of requests that are not too many to be sent at once."""
    piece: list[Request] = []
    size = 0
    for request in requests:
        carried = request.weight
        if piece and (len(piece) == PIECE_REQUESTS or size + carried > PIECE_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(request)
        size += carried
    if piece:
        yield piece


def _nobody() -> None:
    """The ``wake`` before anybody waits."""
