"""How long the two sides of a migration wait for each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """In seconds."""

    hello: float = 10
    """In which a connection must have said what it wants."""
    silence: int = 60
    """Without a byte, after which the source counts as lost. A slow source sends a little, often."""
    sign: float = 5
    """How often a side that has nothing else to send shows that it is there."""
    agree: int = 600
    """In which a destination must agree; ``source/agreement.py`` adds to it for large disks."""
    margin: float = 5
    """What the estimate of a switchover may be wrong by: flushes and lost packets take seconds."""


PATIENCE = Patience()
