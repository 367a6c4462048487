"""Reads and writes that go on while the thread that began them does other things.

A node that is far away has them (a drive on another server's export): one thread has many under way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

Note = Callable[..., Any]
"""Called with the offset and the length of a range that was changed, and ``is_data``."""


class Carrier(Protocol):
    """Where transfers' ends arrive. The threads that wait for some take turns at receiving them all."""

    def fileno(self) -> int:
        """What can be polled for the next end, between ``claim`` and ``release``."""

    def claim(self) -> bool:
        """Become the thread that receives, if none is: then ``release`` must follow."""

    @property
    def has_more(self) -> bool:
        """Whether ``receive`` has something to do although the descriptor may not be readable."""

    def receive(self) -> None:
        """Receive what is there. The ends of transfers are told meanwhile, also others'."""

    def release(self, wake: Callable[[], None]) -> None:
        """Leave the receiving to a thread that waits, other than that of the transfers with ``wake``."""


class Transfer:
    """One read or write. It has ended when ``ended`` is called, by any thread, once."""

    __slots__ = (
        "_memory",
        "carrier",
        "ended",
        "error",
        "is_lost",
        "is_write",
        "length",
        "notes",
        "offset",
        "wake",
    )

    def __init__(
        self,
        offset: int,
        length: int,
        data: memoryview | None,
        ended: Callable[[Any], None],
        wake: Callable[[], None],
    ) -> None:
        """``data`` is what is written, None for a read. ``wake``, for any thread: the carrier may be free."""
        self.is_write = data is not None
        self.offset = offset
        self.length = length
        self._memory = data
        self.ended = ended
        self.wake = wake
        self.notes: tuple[Note, ...] = ()
        """Called before ``ended`` of a write, also if it has failed."""
        self.error: OSError | None = None
        self.is_lost = False
        """Whether it is unknown if it was done: it is to be done again in the way that waits."""
        self.carrier: Carrier | None = None
        """Where its end will arrive; None if its end is told without anybody's help."""

    @property
    def buffer(self) -> memoryview:
        """The data of a write, or the memory that a read fills. A read owns it."""
        if self._memory is None:
            self._memory = memoryview(bytearray(self.length))
        return self._memory

    def keep(self) -> None:
        """Copy the data of a write, whose memory is the caller's. Call it before the start returns."""
        if self.is_write:
            self._memory = memoryview(bytes(self.buffer))

    def fill(self, data: memoryview) -> None:
        """Take all that was read, by any thread. ``buffer`` must not be used before."""
        self._memory = memoryview(bytes(data))

    def end(self, error: OSError | None = None, *, is_lost: bool = False) -> None:
        """Tell that it has ended."""
        self.error, self.is_lost = error, is_lost
        for note in self.notes:
            note(self.offset, self.length, is_data=True)
        self.ended(self)


Start = Callable[[Sequence[Transfer]], bool]
"""Begins transfers, or returns False if it can't begin these; then none has begun."""


def starter(node: object) -> Start | None:
    """Return the way to begin transfers on a node, if it has one now. For one batch of requests."""
    return cast("Start | None", getattr(node, "start", None))
