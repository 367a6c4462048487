"""Finds errors in a line that is being typed, unless more typing may correct them."""

from __future__ import annotations

from qmon.hmp.line.reading import Reading


def complaint(reading: Reading) -> str | None:
    """Return the error that a line has whatever is typed after it; None if it may become valid.

    A line with a comment is complete. Only the first line of QEMU's message is returned.
    """
    if not reading.error or reading.is_curable:
        return None
    return reading.error.split("\n")[0]
