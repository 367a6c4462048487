"""What the program needs of a connection, besides that it is a Target."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from qmon.qmp.target import Target
from qmon.remote.address import RemoteAddress

LOST = "X_QMON_CONNECTION_LOST"
"""The private event of a connection that was lost: ``address``, ``reason``, ``ended`` (it is for good),
``shut-down`` (because the machine has ended)."""
BACK = "X_QMON_CONNECTION_BACK"
"""The private event of a connection that is there again: ``address``."""


class Remote(Target, Protocol):
    """A Target behind a connection. ``open`` it before its use, and ``close`` it."""

    address: RemoteAddress
    ended: asyncio.Event
    """Set when the connection is gone for good: the program at its end has ended, or nobody waits for it."""
    reconnects: bool
    """Whether a lost connection is taken up again."""
    version: Mapping[str, Any]
    """What the other end says of its version (QAPI: VersionInfo); {} if it does not."""
    why_lost: str
    """Why there is no connection; "" while there is one."""

    async def open(self) -> None:
        """Connect. Raises QmonError in one line if that is not possible."""

    async def close(self) -> None:
        """Leave. What runs at the other end goes on."""
