"""What a connection can be for: an interface with one implementation for each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from qmon.migration.destination.connections.replies import Replies
from qmon.migration.wire.reader import Item

ENDLESS = 1 << 20
"""Seconds to wait where nothing limits it."""


class Part:
    """What one connection is for. Its methods are for the connection's thread, if they say nothing else.

    Each of them may raise QmonError or OSError, upon which ``fail`` is called and the connection is closed.
    """

    is_over = False
    """Whether nothing more is to be read."""

    def patience(self) -> float:
        """Return how long to wait for data, in seconds; nothing more is awaited if that is not positive."""
        raise NotImplementedError

    def why_late(self) -> str:
        """Return the error if nothing has come for so long."""
        raise NotImplementedError

    def why_short(self) -> str | None:
        """Return the error if the stream ends here, None if it may."""
        raise NotImplementedError

    def why_damaged(self, why: str) -> str:
        """Return the error if the bytes of the stream are not what a source has sent, or end too early."""
        return why

    def take(self, item: Item) -> None:
        """Take what has arrived."""
        raise NotImplementedError

    def taken(self) -> None:
        """All that has arrived is taken."""

    def pause(self) -> None:
        """Nothing has arrived for a moment."""

    def end(self, rest: Callable[[], bytes]) -> None:
        """Nothing more is read. ``rest`` returns what has arrived behind the stream."""

    def fail(self, why: str, *, is_broken: bool) -> None:
        """The connection is about to be closed for an error. ``is_broken``: the line is the reason."""
        raise NotImplementedError

    def close(self) -> None:
        """The connection is closed."""

    def stop(self) -> None:
        """The connection is being closed at this side. For any thread."""

    def leave(self) -> bool:
        """This process ends; return whether the source's confirmation is worth a moment. For any thread."""
        return False


class Connection(Protocol):
    """One connection, as its part knows it."""

    peer: str
    replies: Replies
    is_pipe: bool
    """Whether it is read until the other end closes it."""

    def become(self, part: Part) -> None:
        """It is known what the connection is for. The parts before are closed with the connection, too."""

    def abort(self) -> None:
        """Make it end at once. For any thread."""


def seconds_until(deadline: float) -> float:
    """Return the seconds to a moment of ``time.monotonic()``."""
    return deadline - time.monotonic()
