"""Pasted text and scripts into lines to run."""

from __future__ import annotations

PROMPT = "(qemu) "


def lines_to_run(text: str) -> list[tuple[int, str]]:
    """The lines of a text that are to be run, each with its number, from 1.

    When any line begins with the prompt ``(qemu) ``, white space before it aside, only such lines count,
    without it: the others are answers in a transcript. Blank lines are lines too.
    """
    lines = [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1)]
    if lines[-1][1] == "":
        lines.pop()
    shown = [(number, line.lstrip(" \t")) for number, line in lines]
    prompted = [(number, line[len(PROMPT) :]) for number, line in shown if line.startswith(PROMPT)]
    return prompted or lines
