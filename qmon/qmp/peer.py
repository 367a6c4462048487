"""The interface of a monitor's client: bytes in, bytes out."""

from __future__ import annotations

from typing import Protocol


class Peer(Protocol):
    """The other end of a connection, a terminal or a pipe. Used on the loop."""

    async def read(self, limit: int = ...) -> bytes:
        """Wait for bytes and return at most ``limit`` of them; empty at the end. Raises OSError."""

    def write(self, data: bytes) -> None:
        """Send bytes now, or as soon as the peer accepts them."""

    async def drain(self) -> None:
        """Wait until few bytes remain to be sent."""
