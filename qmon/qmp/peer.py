"""Who a monitor serves, as far as it needs to know: bytes in, bytes out."""

from __future__ import annotations

from typing import Protocol


class Peer(Protocol):
    """The other end of a connection, a terminal or a pipe. Used on the loop."""

    async def read(self, limit: int = ...) -> bytes:
        """Wait for bytes and return at most ``limit`` of them; nothing at the end. Raises OSError."""

    def write(self, data: bytes) -> None:
        """Send, now or when the peer takes it."""

    async def drain(self) -> None:
        """Wait until little is left to be sent."""
