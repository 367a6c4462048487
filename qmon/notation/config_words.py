"""The words of errors in the configuration file: what was found, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN_MOST = 40
"""Characters of a wrong value that its error shows."""


def instead(name: str, names: Iterable[str]) -> str:
    """Say which of the names was meant, or which there are."""
    names = list(names)
    near = get_close_matches(name, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(names)}"


def written(value: object) -> str:
    """Return a value about as the file writes it, in one short line."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN_MOST else f"{text[:_SHOWN_MOST]}..."
