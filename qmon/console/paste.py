"""Pasted text, and the lines that wait to run: what of a paste is a line, and what is left when one fails."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from qmon.hmp.line.transcript import (
    ESCAPE,
    LeftOut,
    LineReader,
    does_nothing,
    prompt_end,
)

_ESCAPE = re.compile(ESCAPE)
_LINE_END = re.compile(r"\r\n?")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Paste:
    """What a pasted text asks for."""

    lines: list[str]
    """The complete lines, each to be run."""
    tail: str
    """A last line without its end: to be edited, or run by Enter."""
    transcript: bool
    """Whether the text showed prompts, so that what was typed before it is no part of it."""
    left_out: LeftOut


def read_paste(text: str) -> Paste:
    """Divide a pasted text into the lines to run and the unfinished last one.

    Line ends may be LF, CR or CR LF; another control character becomes a space, so that a paste can neither
    press keys nor move the cursor. In a transcript only the lines behind a ``(qemu)`` prompt count.
    """
    text = as_lines(text)
    reader = LineReader()
    found = reader.read(text)
    if "\n" not in text and not reader.is_transcript:
        return Paste([], text, False, reader.left_out)  # a piece of a line: its spaces count
    last = text.count("\n") + 1
    lines = []
    tail = ""
    for number, line in found:
        if number == last:
            tail = line
        else:
            lines.append(line)
    return Paste(lines, tail, reader.is_transcript, reader.left_out)


def as_lines(text: str) -> str:
    """A text that was edited elsewhere, with nothing in it that could act on the terminal."""
    return _CONTROL.sub(" ", _LINE_END.sub("\n", _ESCAPE.sub("", text)))


def without_prompt(line: str) -> str:
    """Cut off the prompts that were pasted or typed before a line."""
    return line[prompt_end(line) :]


def left_unrun(count: int) -> str:
    """Say how many lines were left."""
    return f"{count} {'line' if count == 1 else 'lines'} left unrun"


class Waiting:
    """The lines that wait for the command that runs, in order."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, lines: Iterable[str]) -> None:
        self._lines.extend(lines)

    def next(self) -> str:
        """Take the oldest line. Raises IndexError when none waits."""
        return self._lines.popleft()

    def abandon(self) -> int:
        """Forget all lines; return how many of them would have done something."""
        count = sum(not does_nothing(line) for line in self._lines)
        self._lines.clear()
        return count
