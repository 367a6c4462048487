"""One connection to a running QEMU, however it is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from qmon.errors import ConnectionLostError
from qmon.qmp.target import Arguments, Event


class Link(Protocol):
    """A connection that is up until ``wait_ended`` returns."""

    version: Mapping[str, Any]
    """QEMU's version (QAPI: VersionInfo); {} if it is not known."""
    commands: frozenset[str]
    """The QMP commands that it can run."""

    async def execute(self, command: str, arguments: Arguments | None, *, oob: bool = False) -> Any:
        """Run a command; with ``oob`` at once, although another one runs.

        Raises CommandError; ConnectionLostError if the connection ends before the answer is there.
        """

    async def wait_ended(self) -> str:
        """Wait until the connection has ended; return the reason."""

    async def close(self) -> None:
        """End the connection; idempotent."""


def lost(address: object) -> ConnectionLostError:
    """Return the error of a command whose answer has not come."""
    return ConnectionLostError(
        f"the connection to {address} was lost: whether the command took effect is not known"
    )


Hear = Callable[[Event], None]
OpenLink = Callable[[Hear], Awaitable[Link]]
"""Connects; the link calls the function with each event, on the loop. Raises QmonError in one line."""
