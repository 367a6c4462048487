"""Compares what a manual's example shows with what a program prints."""

from __future__ import annotations

import re


def matches(expected: list[str], answer: str) -> bool:
    """Whether an answer is as its example shows it: ``...`` is any text, on a line of its own any lines."""
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n"
        for line in expected
    )
    return re.fullmatch(pattern, answer + "\n" if answer else "") is not None
