"""Finds the lines to run in pasted text and scripts, which may be transcripts with prompts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qmon.hmp.line.words import comment_start
from qmon.hmp.prompt import NAME_MOST

ESCAPE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-Z\\^-~])"
"""A control sequence of a terminal (ECMA-48), such as the colours in a copied session."""

_GAP = rf"(?:[\s\ufeff\u200b-\u200f\u2060]++|{ESCAPE})*+"
"""Invisible text: all kinds of white space, characters without a width, colours."""
_PROMPTS = re.compile(rf"{_GAP}(?:\(qemu(?: [\w.:@/+-]{{1,{NAME_MOST}}})?\){_GAP})+")
_ESCAPE = re.compile(ESCAPE)

_SHOWN_CHARACTERS = 60


def prompt_end(line: str) -> int:
    """Return where a line begins after its prompts, 0 if it has none. Spaces and colours are skipped."""
    found = _PROMPTS.match(line)
    return found.end() if found is not None else 0


@dataclass(slots=True)
class LeftOut:
    """The lines of a transcript that have no prompt and are not blank or comments. They are not run."""

    count: int = 0
    number: int = 0
    """The number of the first line, from 1."""
    line: str = ""
    """The first line."""

    def add(self, number: int, line: str) -> None:
        if not self.count:
            self.number, self.line = number, _ESCAPE.sub("", line).strip()
        self.count += 1

    def tell(self, shown: str) -> str:
        """Return a message that they were not run; ``shown`` is the first line without secrets."""
        text = "".join(
            character if character.isprintable() else " " for character in shown[:_SHOWN_CHARACTERS]
        )
        if len(shown) > _SHOWN_CHARACTERS:
            text += "..."
        if self.count == 1:
            return f"line {self.number} has no (qemu) prompt and was not run: {text}"
        return f"{self.count} lines without a (qemu) prompt were not run, first line {self.number}: {text}"


class LineReader:
    """Finds the lines to run in a text that may come in pieces of whole lines."""

    def __init__(self) -> None:
        self.is_transcript = False
        """Whether any line so far had a prompt."""
        self.left_out = LeftOut()
        self.lines_read = 0

    def read(self, text: str) -> list[tuple[int, str]]:
        """Return the lines to run in the next piece, each with its number in the whole text, from 1.

        If any line so far begins with the prompt ``(qemu)``, only lines with the prompt are returned, without
        it: the others are answers in a transcript. Blank lines are counted and returned too.
        """
        lines = [
            (number, line.removesuffix("\r"))
            for number, line in enumerate(text.split("\n"), self.lines_read + 1)
        ]
        if lines[-1][1] == "":
            lines.pop()
        self.lines_read += len(lines)
        if not self.is_transcript and "(qemu" not in text:
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
    """Whether a line is blank or contains only a comment."""
    return not line[: comment_start(line)].strip()
