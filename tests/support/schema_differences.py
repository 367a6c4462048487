"""Where qmon's schema differs from QEMU 7.2's, and why: the file of reasons."""

from __future__ import annotations

from tests.support.processes import CHECKOUT

REASONS = CHECKOUT / "tests" / "interop" / "qmp" / "schema_differences.txt"


def reasons() -> dict[str, str]:
    """By pattern of lines: why qmon differs there."""
    lines = REASONS.read_text().splitlines()
    rows = (line.split(" # ") for line in lines if line and not line.startswith("#"))
    return {pattern.strip(): why.strip() for pattern, why in rows}
