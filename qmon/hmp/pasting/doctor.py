"""Reads pasted text: which lines run, which are left out, and whether anything around them was removed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from qmon.hmp.line.reading import read_line
from qmon.hmp.line.transcript import does_nothing, prompt_end
from qmon.hmp.line.words import SPACE, skip_space
from qmon.hmp.pasting.continuation import begun_line, is_shell, joined
from qmon.hmp.pasting.decorations import DECORATIONS
from qmon.hmp.pasting.prose import is_attempt, is_prose
from qmon.hmp.pasting.shell import monitor_lines
from qmon.hmp.pasting.typography import is_suspect, mended
from qmon.hmp.tables.table import Tables

DEPTH_MAX = 20
"""The most decorations around a line."""
LENGTH_MAX = 4096
"""The longest line, in characters, that is looked at for decorations. A pattern's time may be its square."""
JOINED_MAX = 100
"""The most lines that one line continues on."""

_NAME = re.compile(rf"[^/{SPACE}]*")
_HASH_PROMPT = re.compile(r"#+\s+(.*)")


@dataclass(frozen=True, slots=True)
class OtherLine:
    """A line that is not run, with its number in the text, from 1."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Pasted:
    """A pasted text."""

    lines: tuple[str, ...]
    """The complete lines that run, in order."""
    tail: str = ""
    """A last line without a line end. It goes to the prompt, to be edited and run by Enter."""
    left_out: tuple[OtherLine, ...] = ()
    """The lines that are no commands. Blank lines, comments and fences are not among them."""
    is_changed: bool = False
    """Whether lines were left out, or more than ``(qemu)`` prompts was removed. Then the person is asked."""
    joins: bool = False
    """Whether the lines are as they stand. If so, the first one includes the text before the cursor."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a line of the text holds."""

    commands: tuple[str, ...] = ()
    comment: str = ""
    is_proven: bool = False
    """Whether the commands were certainly given to a monitor."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the text, joined with those that continue it."""

    number: int
    text: str
    found: _Found | None
    """None if it holds no command, and is neither blank nor a comment."""
    is_changed: bool = False
    """Whether anything but ``(qemu)`` prompts was removed from it."""

    @property
    def commands(self) -> tuple[str, ...]:
        return self.found.commands if self.found is not None else ()

    @property
    def comment(self) -> str:
        return self.found.comment if self.found is not None else ""

    @property
    def is_proven(self) -> bool:
        return self.found is not None and self.found.is_proven


def read_pasted(tables: Tables, text: str, before: str = "", after: str = "") -> Pasted:
    """Find the commands in a text with LF line ends and no other control characters.

    ``before`` and ``after`` are the texts around the cursor; a piece of a line becomes ``tail`` unchanged. If
    each line can be meant as a command as it stands, nothing is changed. Otherwise there are commands in a
    text. If some of its lines certainly went to a monitor (after ``(qemu)``, by ``virsh``, by ``socat``),
    only these are commands; if not, all lines are that begin with a command's name without what surrounds
    them. Raises only HxError.
    """
    doctor = _Doctor(tables)
    if "\n" not in text:
        is_piece = bool((before + after).strip()) and not prompt_end(text)
        return as_it_stands(text) if is_piece else doctor.read(text)
    before = before[prompt_end(before) :]
    alone = doctor.read(text)
    if not before or not (alone.joins or alone.is_changed):
        return alone
    together = doctor.read(before + text)
    if not together.is_changed:
        return together
    return alone if alone.is_changed else as_it_stands(before + text)


def as_it_stands(text: str) -> Pasted:
    """Return a text's lines, whatever they hold."""
    *lines, tail = text.split("\n")
    return Pasted(tuple(lines), tail, joins=True)


class _Doctor:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def read(self, text: str) -> Pasted:
        texts = text.removesuffix("\n").split("\n")
        if all(map(self._is_clean, texts)):
            return as_it_stands(text)
        lines = self._with_hash_prompts(list(self._lines(texts)))
        is_transcript = any(line.is_proven for line in lines)
        if not is_transcript and (
            not any(line.commands for line in lines) or all(map(self._may_stand, lines))
        ):
            return as_it_stands(text)
        running = [line for line in lines if line.commands and self._runs(line, is_transcript)]
        commands = [command for line in running for command in line.commands]
        tail = commands.pop() if running and running[-1] is lines[-1] and not text.endswith("\n") else ""
        numbers = {line.number for line in running}
        others = [line for line in lines if line.number not in numbers]
        if not any(line.is_changed for line in lines) and not any(map(_is_other, others)):
            return Pasted(tuple(commands), tail)
        left_out = [
            OtherLine(line.number, line.text.strip())
            for line in others
            if _is_other(line) or self._behind_hash(line) is not None
        ]
        return Pasted(tuple(map(str.strip, commands)), tail.strip(), tuple(left_out), is_changed=True)

    def _lines(self, texts: Sequence[str]) -> Iterator[_Line]:
        """Yield the lines, each with what was found in it."""
        place = 0
        while place < len(texts):
            first, text = place, texts[place]
            while place + 1 < min(len(texts), first + JOINED_MAX) and self._continues(text, texts[place + 1]):
                place += 1
                text = joined(text, texts[place])
            place += 1
            end = prompt_end(text)
            found = self._after_prompt(text[end:]) if end else self._find(text)
            if found is None:
                is_changed = False
            elif found.commands:
                is_changed = found.commands != (text[end:],)
            else:
                is_changed = not end and not does_nothing(text)
            yield _Line(first + 1, text, found, is_changed or place > first + 1)

    def _find(self, text: str, depth: int = 0) -> _Found | None:
        """Remove what surrounds a line's commands; None if the line holds no command."""
        if self._is_command(text):
            return _Found((mended(self._tables, text),))
        if does_nothing(text):
            return _Found(comment=text.strip())
        if depth == DEPTH_MAX or len(text) > LENGTH_MAX:
            return None
        for decoration in DECORATIONS:
            inner = decoration.unwrap(text)
            if inner is None:
                continue
            if decoration.is_prompt:
                return self._after_prompt(inner[0], depth + 1)
            found = [self._find(each, depth + 1) for each in inner]
            return _together(found, is_proven=decoration.is_proof)
        return None

    def _after_prompt(self, text: str, depth: int = 0) -> _Found:
        """Find the command after a monitor's prompt: what was typed there is one, even if it is unknown."""
        return replace(self._find(text, depth) or _Found((text,)), is_proven=True)

    def _is_command(self, text: str) -> bool:
        name = _NAME.match(text, skip_space(text, 0))
        return name is not None and self._tables.main.find(name[0]) is not None

    def _is_clean(self, text: str) -> bool:
        """Whether a line is certainly a command as it stands, or blank. A long paste must be read fast."""
        is_whole = not text.rstrip().endswith("\\")
        return not text or (is_whole and self._is_command(text) and not is_suspect(text))

    def _continues(self, text: str, following: str) -> bool:
        """Whether a line goes on in the following one."""
        begun = begun_line(text)
        if begun is None or prompt_end(following) or does_nothing(following):
            return False
        first, second = self._find(begun), self._find(following)
        if first is None and is_shell(begun):
            return second is None or not second.is_proven
        if first is None or not first.commands or second is not None:
            return False
        return self._fails(text) or not self._fails(joined(text, following))

    def _may_stand(self, line: _Line) -> bool:
        """Whether a line may be meant as it stands: a command, perhaps with a mistake in it, or nothing."""
        return not line.is_changed and (line.found is not None or is_attempt(line.text))

    def _runs(self, line: _Line, is_transcript: bool) -> bool:
        if is_transcript:
            return line.is_proven
        return not any(is_prose(command) and self._fails(command) for command in line.commands)

    def _fails(self, command: str) -> bool:
        return read_line(self._tables, command).error is not None

    def _with_hash_prompts(self, lines: list[_Line]) -> list[_Line]:
        """Take ``#`` for root's prompt, where nothing is given without a prompt.

        It is one before a shell command that sends lines to a monitor; and before a command, if commands
        follow all of them and no other line is one.
        """
        behind = {line.number: found for line in lines if (found := self._behind_hash(line)) is not None}
        taken = {number: found for number, found in behind.items() if found.is_proven}
        if any(map(self._is_bare, lines)):
            return lines
        if not taken and not any(line.commands for line in lines):
            comments = sum(bool(line.comment) for line in lines)
            taken = behind if comments == len(behind) else {}
        return [
            replace(line, found=taken[line.number], is_changed=True) if line.number in taken else line
            for line in lines
        ]

    def _behind_hash(self, line: _Line) -> _Found | None:
        """Return what a comment would be without its ``#``, if that is a command that can be read."""
        hashed = _HASH_PROMPT.match(line.comment)
        found = self._find(hashed[1]) if hashed is not None else None
        if (
            found is None
            or not found.commands
            or (not found.is_proven and any(map(self._fails, found.commands)))
        ):
            return None
        return found

    def _is_bare(self, line: _Line) -> bool:
        """Whether a line begins with a command, or with a shell command that sends some."""
        return self._is_command(line.text) or monitor_lines(line.text.strip()) is not None


def _is_other(line: _Line) -> bool:
    """Whether a line that does not run is no blank line, comment or fence."""
    return line.found is None or bool(line.commands)


def _together(found: Sequence[_Found | None], *, is_proven: bool) -> _Found | None:
    """Return as one what was found in the lines inside a decoration; None if one holds no command."""
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        return None
    if len(known) == 1:
        return replace(known[0], is_proven=is_proven or known[0].is_proven)
    commands = tuple(command for each in known for command in each.commands)
    return _Found(commands, is_proven=is_proven or any(each.is_proven for each in known))
