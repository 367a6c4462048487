"""A line, read once: the command, its arguments or the error, and what may follow.

What runs a line, hides its secrets, or helps while it is typed takes this value, and reads no line itself.
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
"""No more lines than these may stand around another: each takes its room on the stack."""

_NAME = re.compile(rf"[^/{SPACE}]*")


@dataclass(frozen=True, slots=True)
class Name:
    """A name as it is typed, and where."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reading:
    """All positions are in ``text``. A line without names is blank."""

    tables: Tables
    text: str
    """The whole line."""
    begin: int
    """Where the line begins behind its prompts."""
    end: int
    """Where its comment begins; the text's end if it has none."""
    names: tuple[Name, ...] = ()
    """The command's, behind those of the tables above it; the last one may be unknown."""
    command: Command | None = None
    start: int = 0
    """Where the arguments begin."""
    arguments: Arguments = NO_ARGUMENTS
    inner: Reading | None = None
    """The line that is the last argument: ``info status`` of ``time info status``."""

    @property
    def line(self) -> str:
        """The text without prompts and comment."""
        return self.text[self.begin : self.end]

    @property
    def does_nothing(self) -> bool:
        """Whether it is blank, white space of every kind counted, or holds nothing but a comment."""
        return not self.line.strip()

    @property
    def typed(self) -> str:
        """The command as it is typed, with one space between its names: ``info block``."""
        return " ".join([name.text for name in self.names])

    @property
    def table(self) -> Table:
        """The table in which the last name was looked up."""
        found = self.tables.at([name.text for name in self.names[:-1]])
        assert found is not None
        return found

    @property
    def next_table(self) -> Table | None:
        """The table of which a name comes next; None when arguments do."""
        if not self.names:
            return self.tables.main
        if self.command is None or self.names[-1].end == self.start or self.start < self.end:
            return None
        return self.command.sub_table

    @property
    def error(self) -> str | None:
        """What QEMU says of a line that can't be read, maybe ""; None of one that can."""
        if self.command is None and self.names:
            return f"unknown command: '{self.text[self.begin : self.names[-1].end]}'"
        return self.arguments.error

    @property
    def is_curable(self) -> bool:
        """Whether a line that can't be read could be, with more text behind it."""
        if self.end < len(self.text):
            return False
        if self.command is not None:
            return self.arguments.is_curable
        name = self.names[-1]
        return name.end == self.end and any(each.startswith(name.text) for each in self.table.names())

    @property
    def nested(self) -> Iterator[Reading]:
        """This line and those within it, the outermost first."""
        reading: Reading | None = self
        while reading is not None:
            yield reading
            reading = reading.inner

    @property
    def is_too_deep(self) -> bool:
        """Whether more lines stand around another than may; those further in are not read."""
        depth, innermost = list(enumerate(self.nested))[-1]
        return depth == DEPTH_MAX and innermost.awaits_line and innermost.arguments.error is None

    @property
    def awaits_line(self) -> bool:
        """Whether a line within this one is its argument, but none was read: it is to come, or too deep."""
        awaited = self.command.inner_line if self.command is not None else None
        return self.inner is None and awaited is not None and self.arguments.awaited is awaited


def read_line(tables: Tables, text: str, *, comments: bool = True) -> Reading:
    """Read a line that is whole. ``comments``: whether ``#`` starts one. Raises HxError alone."""
    return _read(tables, text, 0, comment_start(text) if comments else len(text), is_typed=False)


def read_typed(tables: Tables, text: str) -> Reading:
    """Read what is there of a line that is being typed: prompts before it don't count, and it may go on.

    One with a comment is whole. Raises HxError alone.
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
