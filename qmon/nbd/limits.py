"""What one connection may hold, ask for and take its time over."""

from __future__ import annotations

from dataclasses import dataclass

from qmon.host.budget import Budget

LARGE_PIECE = 1280 << 10
SMALL_PIECE = 64 << 10
"""How much of a request's data a connection holds at once. It fits Linux's own client, or one cluster.

A longer request is served piece by piece, so that a client that stops reading or sending binds no more
memory. 1 MiB reads in pieces of 128 KiB were as fast as whole, in pieces of 64 KiB 0.75 times as fast.
"""

LARGE_BUFFERS = Budget(64 << 20)
"""Limit of the large buffers of all connections. When it is used up, further clients get small ones."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one connection, in bytes, extents and seconds."""

    slack: int = 16 << 10
    """Room in the buffers besides a piece of data, for headers and small requests and replies."""
    extents: int = 4096
    """The most extents that one BLOCK_STATUS reply covers; the client asks again for the rest."""
    handshake_seconds: float = 10.0
    linger_seconds: float = 0.25
    linger_total_seconds: float = 2.0
    """After a disk has moved, how long its connection waits for one more request, and in all."""


LIMITS = Limits()

MAX_DISCARDED = 64 << 20
"""The most data of a refused request that is received. A client that announces more is disconnected."""
