"""What the program needs of a connection, besides that it is a Target."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, Protocol

from qmon.qmp.target import Arguments, Target
from qmon.remote.address import RemoteAddress

LOST = "X_QMON_CONNECTION_LOST"
"""The private event of a connection that was lost: ``address``, ``reason``, ``ended`` (it is for good),
``shut-down`` (because the machine has ended)."""
BACK = "X_QMON_CONNECTION_BACK"
"""The private event of a connection that is there again: ``address``."""


class Remote(Target, Protocol):
    """A Target behind a connection. ``open`` it before its use, and ``close`` it."""

    @property
    def address(self) -> RemoteAddress:
        """Where it leads to."""

    @property
    def ended(self) -> asyncio.Event:
        """Set when the connection is gone for good.

        The program at its end has ended, or nobody waits for it.
        """

    reconnects: bool
    """Whether a lost connection is taken up again."""

    @property
    def version(self) -> Mapping[str, Any]:
        """What the other end says of its version (QAPI: VersionInfo); {} if it does not."""

    @property
    def why_lost(self) -> str:
        """Why there is no connection; "" while there is one."""

    async def open(self) -> None:
        """Connect. Raises QmonError in one line if that is not possible."""

    async def close(self) -> None:
        """Leave. What runs at the other end goes on."""

    @property
    def takes_out_of_band(self) -> bool:
        """Whether ``execute_out_of_band`` is possible now."""

    async def execute_out_of_band(self, command: str, arguments: Arguments | None = None) -> Any:
        """Run a command at once, although another one runs. Raises CommandError if that is not possible."""

    @property
    def can_pass_descriptors(self) -> bool:
        """Whether ``pass_descriptor`` is possible now."""

    async def pass_descriptor(self, name: str, descriptor: int) -> None:
        """Give a copy of a file descriptor to QEMU, in turn with the commands (QMP: getfd).

        QEMU knows it by the name from then on. Raises CommandError, also where it is not possible.
        """

    def duplicate(self) -> socket.socket | None:
        """Return a copy of the socket, which keeps the connection up as long as it is open; None without one.

        Only one program may read it at a time.
        """

    @property
    def peer_pid(self) -> int | None:
        """The process at the other end, or the last one that was there; None if that is not certain."""

    @property
    def peer_has_ended(self) -> bool:
        """Whether that process has ended, for certain. False also if it is not known."""
