"""Which start of which kernel this process runs on."""

from __future__ import annotations

from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return the running kernel's id, which is new at each boot; "" if a container hides it."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
