"""How much of an image's tables is kept in memory, and how much is looked at in one go."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes, unless a name says otherwise."""

    cached_tables: int = 16 << 20
    cached_backing_tables: int = 4 << 20
    """L2 tables in memory, for the image of a drive and for each one below it."""
    cached_counts: int = 4 << 20
    checked: int = 16 << 20
    """L2 tables up to which counts are compared with them: half a second for 8 MiB, once."""
    checked_first: int = 2 << 20
    """The same before anything is changed; what guests wait for must not take longer."""
    tables_looked_at: int = 1 << 19
    """Number of L2 tables up to which all are looked at on opening; twice as many take a second."""


LIMITS = Limits()
