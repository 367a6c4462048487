"""Text in a page: escaped, and figures with their units. Pure."""

from __future__ import annotations

import html

from qmon.notation.plain_text import one_line
from qmon.notation.units import duration, human_size


def escaped(text: object) -> str:
    """Return a text for an element or an attribute's value, with no character that a reader can't see."""
    shown = one_line(str(text)).encode("utf-8", "backslashreplace").decode("utf-8")
    return html.escape(shown, quote=True)


def rate(value: float) -> str:
    """Return bytes per second."""
    return f"{human_size(value)}/s"


def wait(microseconds: float) -> str:
    """Return a time that may be very short."""
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:.3g} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.3g} s"


def percent(value: float) -> str:
    """Return a share."""
    return f"{value:.0f} %"


def moment(milliseconds: float) -> str:
    """Return a time since the start."""
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 60 else duration(seconds)


def tick(milliseconds: float) -> str:
    """Return a round time on an axis."""
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds:g} ms" if milliseconds else "0"
    if seconds < 60:
        return f"{seconds:g} s"
    whole = duration(seconds)
    return whole.removesuffix(" 0 s").removesuffix(" 0 min")


def times(count: int, noun: str) -> str:
    """Return a count with a noun whose plural ends with s."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
