"""Limits of an image's tables: how much of them is cached, and how much is checked at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one image; in bytes, unless a field says otherwise."""

    cached_tables: int = 16 << 20
    cached_backing_tables: int = 4 << 20
    """Cached L2 tables: of a drive's top image, and of each backing image."""
    cached_counts: int = 4 << 20
    checked: int = 16 << 20
    """The most L2 tables that are checked once against the counts; 8 MiB take half a second."""
    checked_first: int = 2 << 20
    """The most L2 tables that are checked before the first change, while guests wait."""
    tables_looked_at: int = 1 << 19
    """The most L2 tables (their number) for which all are checked on opening; twice as many take a second."""


LIMITS = Limits()
