"""Splits pasted text into lines, and keeps the lines that wait to run."""

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
    """A pasted text, split into lines."""

    lines: list[str]
    """The complete lines, to be run in order."""
    tail: str
    """A last line without a line end. It goes to the prompt, to be edited and run by Enter."""
    transcript: bool
    """Whether the text contains prompts. If so, text typed before the paste is not part of its first line."""
    left_out: LeftOut


def read_paste(text: str) -> Paste:
    """Split a pasted text into the lines to run and the unfinished last one.

    Line ends may be LF, CR or CR LF. Every other control character becomes a space, so that a paste can't
    press keys or move the cursor. In a transcript only the lines after a ``(qemu)`` prompt are commands.
    """
    text = as_lines(text)
    reader = LineReader()
    found = reader.read(text)
    if "\n" not in text and not reader.is_transcript:
        return Paste([], text, False, reader.left_out)  # a piece of a line: its spaces matter
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
    """Return a text with LF line ends, without escape sequences and control characters."""
    return _CONTROL.sub(" ", _LINE_END.sub("\n", _ESCAPE.sub("", text)))


def without_prompt(line: str) -> str:
    """Remove ``(qemu)`` prompts from the start of a line."""
    return line[prompt_end(line) :]


def not_run(count: int) -> str:
    """Say how many waiting lines were not run."""
    return f"{count} waiting {'line was' if count == 1 else 'lines were'} not run"


class Waiting:
    """A queue of lines that wait until the running command ends."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, lines: Iterable[str]) -> None:
        self._lines.extend(lines)

    def next(self) -> str:
        """Remove and return the oldest line. Raises IndexError when none waits."""
        return self._lines.popleft()

    def abandon(self) -> int:
        """Drop all lines; return how many of them were commands, not blank lines or comments."""
        count = sum(not does_nothing(line) for line in self._lines)
        self._lines.clear()
        return count
