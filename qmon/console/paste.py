"""Splits text that arrives in a burst into lines, and keeps what waits to run: lines, and pasted texts."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qmon.hmp.line.transcript import (
    ESCAPE,
    LeftOut,
    LineReader,
    does_nothing,
    prompt_end,
)
from qmon.hmp.pasting.doctor import Pasted

_ESCAPE = re.compile(ESCAPE)
_LINE_END = re.compile(r"\r\n?")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Burst:
    """A text that arrived at once, split into lines."""

    lines: list[str]
    """The complete lines, to be run in order."""
    tail: str
    """A last line without a line end. It goes to the prompt, to be edited and run by Enter."""
    transcript: bool
    """Whether the text contains prompts. If so, text typed before it is not part of its first line."""
    left_out: LeftOut


def read_burst(text: str) -> Burst:
    """Split a text that arrived at once into the lines to run and the unfinished last one.

    Line ends may be LF, CR or CR LF. Every other control character becomes a space, so that a paste can't
    press keys or move the cursor. In a transcript only the lines after a ``(qemu)`` prompt are commands.
    """
    text = as_lines(text)
    reader = LineReader()
    found = reader.read(text)
    if "\n" not in text and not reader.is_transcript:
        return Burst([], text, False, reader.left_out)  # a piece of a line: its spaces matter
    last = text.count("\n") + 1
    lines = []
    tail = ""
    for number, line in found:
        if number == last:
            tail = line
        else:
            lines.append(line)
    return Burst(lines, tail, reader.is_transcript, reader.left_out)


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
    """A queue of what waits for the running command: lines, and texts about which the person is asked."""

    def __init__(self) -> None:
        self._items: deque[str | Pasted] = deque()

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, items: Iterable[str | Pasted]) -> None:
        self._items.extend(items)

    def add_first(self, lines: Sequence[str]) -> None:
        """Add lines that are older than all that wait."""
        self._items.extendleft(reversed(lines))

    def next(self) -> str | Pasted:
        """Remove and return the oldest item. Raises IndexError when none waits."""
        return self._items.popleft()

    def abandon(self) -> int:
        """Drop all items; return how many of their lines were commands, not blank lines or comments."""
        lines = [
            line for item in self._items for line in (item.lines if isinstance(item, Pasted) else [item])
        ]
        self._items.clear()
        return sum(not does_nothing(line) for line in lines)
