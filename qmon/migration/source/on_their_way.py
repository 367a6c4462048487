"""The forwarded requests whose replies have not come: how many they may be, and whom each reply is for.

Only so many requests and bytes are on their way, so that the memory of both sides is bounded. A request for
which nobody waits any more keeps its room, because the destination may still answer it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from qmon.migration.wire.forward import MAX_BYTES, MAX_REQUESTS


class Asked(Protocol):
    """What a request is for."""

    wake: Callable[[], None]
    """For any thread: tells who waits for it that it may receive."""

    def fill(self, data: memoryview) -> None:
        """Take the data of a reply."""

    def end(self, error: OSError | None = None) -> None:
        """Tell that it has ended."""


Sent = tuple[int, int, int | None, Asked]
"""A request that was sent: the drive's number; the bytes of data that it and its reply carry; those that a
success brings, None if that is not known; what it is for. It is plain because each request has one."""

Answer = tuple[int, Sent | None, int]
"""A reply: errno or 0, the request if there is one, the bytes of the reply's data."""


class OnTheirWay:
    """The requests by their cookies. Not thread-safe."""

    def __init__(self) -> None:
        self._sent: dict[int, Sent] = {}
        self._given_up = 0
        self._bytes = 0
        self._cookie = 0

    def __len__(self) -> int:
        """How many somebody waits for."""
        return len(self._sent) - self._given_up

    def has_room(self, count: int, weight: int) -> bool:
        """Whether so many more may be sent."""
        return len(self._sent) + count <= MAX_REQUESTS and self._bytes + weight <= MAX_BYTES

    def add(self, sent: Sequence[Sent], weight: int) -> int:
        """Note requests of so much weight; return the cookie of the first, which the others' follow."""
        first = self._cookie
        self._cookie = first + len(sent)
        self._bytes += weight
        self._sent.update(enumerate(sent, first))
        return first

    def take(self, replies: Iterable[tuple[int, ...]]) -> list[Answer]:
        """Take what is answered by replies: of each its errno, its cookie and the bytes of its data."""
        pop = self._sent.pop
        found: list[Answer] = [(code, pop(cookie, None), size) for code, cookie, size in replies]
        for _, sent, _ in found:
            if sent is not None:
                self._bytes -= sent[1]
                self._given_up -= sent[3] is NOBODY
        return found

    def give_up(self, drive: int) -> list[Asked]:
        """Return a drive's requests: nobody waits for their replies from now on."""
        left: list[Asked] = []
        for cookie, (of, weight, _, asked) in self._sent.items():
            if of == drive and asked is not NOBODY:
                self._sent[cookie] = (of, weight, None, NOBODY)
                left.append(asked)
        self._given_up += len(left)
        return left

    def clear(self) -> list[Asked]:
        """Return all that somebody waits for: no reply will come."""
        left = [asked for *_, asked in self._sent.values() if asked is not NOBODY]
        self._sent.clear()
        self._given_up = self._bytes = 0
        return left

    def another(self, wake: Callable[[], None] | None) -> Callable[[], None] | None:
        """Return the ``wake`` of a request that has another one, None without such."""
        for *_, asked in self._sent.values():
            if asked is not NOBODY and asked.wake != wake:
                return asked.wake
        return None


class _Nobody:
    """Takes the replies for which nobody waits."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None

    def fill(self, data: memoryview) -> None:
        """Drop the data."""

    def end(self, error: OSError | None = None) -> None:
        """Nobody is told."""


NOBODY: Asked = _Nobody()
