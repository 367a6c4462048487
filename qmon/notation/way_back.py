"""The way back after the disks have moved, in the same words wherever it is named."""

from __future__ import annotations

WAY_BACK = "if the destination does not run, cont -f runs this machine with the old disks"
"""It is for a source whose migration has completed, also after a restart."""


def moved(peer: str | None) -> str:
    """Return the line that says where the disks have moved, if that is known, and the way back."""
    return f"The disks have moved to {peer or 'another host'}: {WAY_BACK}"
