"""One connection to a running QEMU, however it is made."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from qmon.errors import CommandError, ConnectionLostError
from qmon.host.peer_process import PeerProcess
from qmon.qmp.target import Arguments, Event


class Link(Protocol):
    """A connection that is up until ``wait_ended`` returns."""

    version: Mapping[str, Any]
    """QEMU's version (QAPI: VersionInfo); {} if it is not known."""
    commands: frozenset[str]
    """The QMP commands that it can run."""

    takes_out_of_band: bool
    """Whether a few commands can be run while another one runs (QMP specification, "Out-of-band")."""
    can_pass_descriptors: bool
    """Whether ``pass_descriptor`` is possible: over a Unix socket that stays connected."""
    peer: PeerProcess | None
    """The process at the other end, if it is known for certain. Who takes the link closes it."""

    async def execute(self, command: str, arguments: Arguments | None, *, oob: bool = False) -> Any:
        """Run a command; with ``oob`` at once, although another one runs.

        Raises CommandError, also with ``oob`` where that is not possible; ConnectionLostError if the
        connection ends before the answer is there.
        """

    async def pass_descriptor(self, name: str, descriptor: int) -> None:
        """Give a copy of a file descriptor to QEMU, which knows it by a name from then on (QMP: getfd).

        Nothing else may be on its way. Raises as ``execute``.
        """

    def duplicate(self) -> socket.socket | None:
        """Return a copy of the socket, which keeps the connection up as long as it is open; None without one.

        Only one program may read it at a time.
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


class NoDescriptors:
    """The part of a link that has neither descriptors nor commands out of band."""

    takes_out_of_band = False
    can_pass_descriptors = False
    peer: PeerProcess | None = None

    async def pass_descriptor(self, name: str, descriptor: int) -> None:
        raise no_descriptors()

    def duplicate(self) -> socket.socket | None:
        return None


def no_descriptors() -> CommandError:
    """Return the error of a descriptor that can't be passed."""
    return CommandError("this connection can't pass file descriptors: only QMP on a Unix socket can")


def no_out_of_band(command: str) -> CommandError:
    """Return the error of a command that can't be run while another one runs."""
    return CommandError(f"{command} can't run beside another command: this connection has no 'oob'")


Hear = Callable[[Event], None]
OpenLink = Callable[[Hear], Awaitable[Link]]
"""Connects; the link calls the function with each event, on the loop. Raises QmonError in one line."""
