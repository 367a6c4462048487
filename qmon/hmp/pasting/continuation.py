"""Joins lines that end in a backslash with those that continue them."""

from __future__ import annotations

import re

from qmon.hmp.line.words import comment_start

_SHELL_WORD = re.compile(r"\b(?:virsh|qemu-monitor-command|echo|printf|socat|ncat|netcat|nc)\b")
_QUOTATION = re.compile(r"(?:\s*>)*+")
_NO_SPACE_AFTER = (",", "=", ":")


def begun_line(text: str) -> str | None:
    """Return a line without the backslash at its end; None if there is none, or only one in a comment."""
    text = text.rstrip()
    if not text.endswith("\\") or comment_start(text) < len(text):
        return None
    return text[:-1]


def is_shell(text: str) -> bool:
    """Whether a shell command that may send lines to a monitor begins in a text."""
    return _SHELL_WORD.search(text) is not None


def joined(text: str, following: str) -> str:
    """Join a line that ends in a backslash with the following one, whose quotation marks ``>`` are removed.

    There is a space between the two where there was one, unless it would cut a list such as ``a=b,c=d``.
    """
    begun = text.rstrip()[:-1]
    quotation = _QUOTATION.match(following)
    following = following[quotation.end() :] if quotation is not None else following
    bare = begun.rstrip()
    spaced = begun != bare or (following[:1].isspace() and not bare.endswith(_NO_SPACE_AFTER))
    return bare + (" " if spaced else "") + following.lstrip()
