"""What the loop of a disk and its connections agree on."""

from __future__ import annotations

import enum

PLAIN_BYTES = 32 << 10
"""Longer requests are left to a thread of their own: copying them would hold up the other clients."""


class Next(enum.Enum):
    """What a connection needs after its turn."""

    MORE = "bytes from its client"
    TURN = "another turn"
    WORK = "a thread that may wait"
    END = "its end"
