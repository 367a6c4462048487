"""How long the two sides of a migration wait for each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits of one side, in seconds."""

    hello: float = 10
    """A connection must have sent a complete offer or question within this time."""
    silence: int = 60
    """After this time without data the source counts as lost. A slow source sends a little, often."""
    sign: float = 5
    """How often a side without data to send shows that it is alive."""
    agree: int = 600
    """A destination must agree within this time; ``source/agreement.py`` adds to it for large disks."""
    gain: float = 15
    """A copy that has no gain on its guests' writes for so long is said not to converge."""
    answer: float = 5
    """Without an answer to its offer for so long, a source on a command or descriptor sends on unheard."""
    probe: float = 3
    """How long a trial measures the line and the guests' writes."""
    margin: float = 5
    """Added to the estimated time of a switchover: flushes and lost packets take seconds."""


PATIENCE = Patience()
