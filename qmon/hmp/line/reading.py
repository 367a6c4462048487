"""A line, read once: the command, its arguments or the error, and what may follow.

Everything that runs a line, hides its secrets or helps to type it uses this value and reads no text itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from qmon.hmp.line.arguments import NO_ARGUMENTS, Arguments, read_arguments
from qmon.hmp.line.transcript import prompt_end
from qmon.hmp.line.words import SPACE, comment_start, skip_space
from qmon.hmp.tables.table import Command, Table, Tables

DEPTH_MAX = 10
"""The most lines around a nested line: each needs room on the stack."""

_NAME = re.compile(rf"[^/{SPACE}]*")


@dataclass(frozen=True, slots=True)
class Name:
    """A name as typed, and its position."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading of a line. All positions are in ``text``. A line without names is blank."""

    tables: Tables
    text: str
    """The whole line."""
    begin: int
    """Where the line begins, after its prompts."""
    end: int
    """Where its comment begins, or the text's end."""
    names: tuple[Name, ...] = ()
    """The names of the tables, then the command's; the last name may be unknown."""
    command: Command | None = None
    start: int = 0
    """Where the arguments begin."""
    arguments: Arguments = NO_ARGUMENTS
    inner: Reading | None = None
    """The line that is the last argument: ``info status`` in ``time info status``."""

    @property
    def line(self) -> str:
        """The text without prompts and comment."""
        return self.text[self.begin : self.end]

    @property
    def does_nothing(self) -> bool:
        """Whether it is blank or contains only a comment; all kinds of white space count as blank."""
        return not self.line.strip()

    @property
    def typed(self) -> str:
        """The command as typed, with one space between its names: ``info block``."""
        return " ".join([name.text for name in self.names])

    @property
    def table(self) -> Table:
        """The table in which the last name was looked up."""
        found = self.tables.at([name.text for name in self.names[:-1]])
        assert found is not None
        return found

    @property
    def next_table(self) -> Table | None:
        """The table of the next name; None if arguments follow."""
        if not self.names:
            return self.tables.main
        if self.command is None or self.names[-1].end == self.start or self.start < self.end:
            return None
        return self.command.sub_table

    @property
    def error(self) -> str | None:
        """QEMU's message if the line can't be read, which may be ""; else None."""
        if self.command is None and self.names:
            return f"unknown command: '{self.text[self.begin : self.names[-1].end]}'"
        return self.arguments.error

    @property
    def is_curable(self) -> bool:
        """Whether more text after the line could correct its error."""
        if self.end < len(self.text):
            return False
        if self.command is not None:
            return self.arguments.is_curable
        name = self.names[-1]
        return name.end == self.end and any(each.startswith(name.text) for each in self.table.names())

    @property
    def nested(self) -> Iterator[Reading]:
        """Yield this line and the lines nested in it, outermost first."""
        reading: Reading | None = self
        while reading is not None:
            yield reading
            reading = reading.inner

    @property
    def is_too_deep(self) -> bool:
        """Whether lines are nested too deeply (DEPTH_MAX); the innermost are not read."""
        depth, innermost = list(enumerate(self.nested))[-1]
        return depth == DEPTH_MAX and innermost.awaits_line and innermost.arguments.error is None

    @property
    def awaits_line(self) -> bool:
        """Whether the argument is a line, but none was read: it is not typed yet, or nested too deeply."""
        awaited = self.command.inner_line if self.command is not None else None
        return self.inner is None and awaited is not None and self.arguments.awaited is awaited


def read_line(tables: Tables, text: str, *, comments: bool = True) -> Reading:
    """Read a complete line. ``comments``: whether ``#`` starts a comment. Raises only HxError."""
    return _read(tables, text, 0, comment_start(text) if comments else len(text), is_typed=False)


def read_typed(tables: Tables, text: str) -> Reading:
    """Read a line that is being typed and may continue. Prompts before it are skipped.

    A line with a comment is complete. Raises only HxError.
    """
    begin = prompt_end(text)
    end = comment_start(text, begin)
    return _read(tables, text, begin, end, is_typed=end == len(text))


def _read(tables: Tables, text: str, begin: int, end: int, *, is_typed: bool, depth: int = 0) -> Reading:
    line = text[:end]
    position = skip_space(line, begin)
    if position == end:
        return Reading(tables, text, begin, end, start=end)
    names = []
    table = tables.main
    while True:
        match = _NAME.match(line, position)
        assert match is not None
        names.append(Name(match[0], position, match.end()))
        start = skip_space(line, match.end())
        command = table.find(match[0])
        if command is None or command.sub_table is None or start == end:
            break
        table, position = command.sub_table, start
    if command is None:
        return Reading(tables, text, begin, end, tuple(names), None, start)
    arguments = read_arguments(command, line, start, is_typed=is_typed)
    inner = None
    if command.inner_line is not None and arguments.error is None and depth < DEPTH_MAX:
        inner_text = line[arguments.pieces[-1].start :]
        inner = _read(tables, inner_text, 0, len(inner_text), is_typed=is_typed, depth=depth + 1)
    return Reading(tables, text, begin, end, tuple(names), command, start, arguments, inner)
