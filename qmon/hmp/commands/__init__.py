"""The commands, one module for each family: each function is a translation to QMP calls and to text."""

from __future__ import annotations

from importlib import import_module

FAMILIES = ("block", "general", "machine_state", "migration", "nbd")


def load() -> None:
    """Import the families, so that their functions are known by name."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
