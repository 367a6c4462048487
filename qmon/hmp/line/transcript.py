"""Pasted text and scripts into lines to run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qmon.hmp.line.words import comment_start
from qmon.hmp.prompt import PROMPT

ESCAPE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-Z\\^-~])"
"""A control sequence of a terminal (ECMA-48): what a copied session has its colours by."""

_GAP = rf"(?:[\s\ufeff\u200b-\u200f\u2060]++|{ESCAPE})*+"
"""What can't be seen: white space of every kind, marks without a width, colours."""
_PROMPTS = re.compile(rf"{_GAP}(?:\(qemu\){_GAP})+")
_ESCAPE = re.compile(ESCAPE)

_SHOWN_CHARACTERS = 60


def prompt_end(line: str) -> int:
    """Where a line begins behind its prompts, however they are spaced and coloured; 0 where it has none."""
    found = _PROMPTS.match(line)
    return found.end() if found is not None else 0


@dataclass(slots=True)
class LeftOut:
    """The lines of a transcript that have no prompt, and would have done something."""

    count: int = 0
    number: int = 0
    """That of the first, from 1."""
    line: str = ""
    """The first."""

    def add(self, number: int, line: str) -> None:
        if not self.count:
            self.number, self.line = number, _ESCAPE.sub("", line).strip()
        self.count += 1

    def tell(self, shown: str) -> str:
        """Say that they were not run; ``shown`` is what is to be seen of the first."""
        text = "".join(
            character if character.isprintable() else " " for character in shown[:_SHOWN_CHARACTERS]
        )
        if len(shown) > _SHOWN_CHARACTERS:
            text += "..."
        if self.count == 1:
            return f"line {self.number}, without (qemu), left unrun: {text}"
        return f"{self.count} lines without (qemu) left unrun, the first is line {self.number}: {text}"


class LineReader:
    """Finds the lines to run in a text, or in one that comes in pieces of whole lines."""

    def __init__(self) -> None:
        self.is_transcript = False
        """Whether any line so far had a prompt."""
        self.left_out = LeftOut()
        self.lines_read = 0

    def read(self, text: str) -> list[tuple[int, str]]:
        """The lines of the next piece that are to be run, each with its number in the whole, from 1.

        When any line in it begins with the prompt ``(qemu)``, or one before did, only such lines count,
        without it: the others are answers in a transcript. Blank lines are lines too.
        """
        lines = [
            (number, line.removesuffix("\r"))
            for number, line in enumerate(text.split("\n"), self.lines_read + 1)
        ]
        if lines[-1][1] == "":
            lines.pop()
        self.lines_read += len(lines)
        if not self.is_transcript and PROMPT.strip() not in text:
            return lines
        ends = [prompt_end(line) for _, line in lines]
        self.is_transcript = self.is_transcript or any(ends)
        if not self.is_transcript:
            return lines
        to_run = []
        for (number, line), end in zip(lines, ends, strict=True):
            if end:
                to_run.append((number, _ESCAPE.sub("", line[end:])))
            elif not does_nothing(line):
                self.left_out.add(number, line)
        return to_run


def does_nothing(line: str) -> bool:
    """Whether a line is blank or holds nothing but a comment."""
    return not line[: comment_start(line)].strip()
