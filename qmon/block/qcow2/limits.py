"""How much of an image's tables is cached, and how much is checked at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes, unless a name says otherwise."""

    cached_tables: int = 16 << 20
    cached_backing_tables: int = 4 << 20
    """Cache sizes of L2 tables: for a drive's top image, and for each backing image."""
    cached_counts: int = 4 << 20
    checked: int = 16 << 20
    """The most L2 tables that are checked once against the counts; 8 MiB take half a second."""
    checked_first: int = 2 << 20
    """The most L2 tables that are checked before the first change, while guests wait."""
    tables_looked_at: int = 1 << 19
    """The largest number of L2 tables for which all are checked on opening. Twice as many take a second."""


LIMITS = Limits()
