"""Splits text that arrives in a burst into lines."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qmon.hmp.line.transcript import ESCAPE, LeftOut, LineReader, prompt_end

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
