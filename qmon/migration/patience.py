"""How long the two sides of a migration wait for each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """In seconds."""

    hello: float = 10
    """Time for a connection to send a complete offer or question."""
    silence: int = 60
    """Time without data after which the source counts as lost. A slow source sends a little, often."""
    sign: float = 5
    """How often a side that has nothing else to send shows that it is alive."""
    agree: int = 600
    """Time for a destination to agree; ``source/agreement.py`` adds to it for large disks."""
    margin: float = 5
    """Added to the estimate of a switchover: flushes, slow requests and lost packets take seconds."""


PATIENCE = Patience()
