"""What is wrong with a line that is being typed: QEMU's message, unless further typing may cure it."""

from __future__ import annotations

from qmon.hmp.line.reading import Reading


def complaint(reading: Reading) -> str | None:
    """The message that a line can't escape any more, whatever is typed behind it; None when it may be good.

    A line with a comment behind it is taken to be whole. The message is its first line.
    """
    if not reading.error or reading.is_curable:
        return None
    return reading.error.split("\n")[0]
