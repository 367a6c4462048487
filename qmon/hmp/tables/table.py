"""The command tables: names to commands, sub-tables, and the tables that come with the program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

from qmon.errors import UsageError
from qmon.hmp.tables import hx
from qmon.hmp.tables.signature import Parameter, parse_signature

MAIN_FILE = "hmp-commands.hx"
SUB_TABLE_FILES = {"hmp_info_cmds": "hmp-commands-info.hx"}
LINE_COMPLETION = "line_completion"
"""The ``.command_completion`` of a command whose last argument is a line."""


class Command:
    """An entry with its parameters and its sub-table. ``file`` is for error messages."""

    def __init__(self, entry: hx.Entry, file: str, sub_table: Table | None = None) -> None:
        self.entry = entry
        self.sub_table = sub_table
        self.file = file

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters in the table's order. Raises HxError if the ``args_type`` can't be read."""
        try:
            return parse_signature(self.entry.args_type)
        except UsageError as error:
            raise hx.HxError(self.file, self.entry.line, str(error)) from error

    @property
    def name(self) -> str:
        """The whole name in the table: ``quit|q``."""
        return self.entry.name

    @cached_property
    def inner_line(self) -> Parameter | None:
        """The last parameter, if it is a monitor line itself; else None."""
        last = self.parameters[-1] if self.entry.completion == LINE_COMPLETION else None
        return last if last is not None and last.kind == "S" else None

    @property
    def other_words(self) -> list[str]:
        """What people type who mean this command (``.also``); these words are no names of it."""
        return self.entry.others.get("also", "").split("|")

    @property
    def is_on_target(self) -> bool:
        """Whether the target's own monitor runs it (``qmon.hmp.tables.learnt``)."""
        return self.entry.others.get("side") == "target"

    @property
    def ours_with(self) -> str | None:
        """The QMP command that makes it qmon's own also on a QEMU (``.ours_with``); None: nothing does."""
        return self.entry.others.get("ours_with")

    @property
    def available(self) -> bool:
        """Whether the table gives a function for it."""
        return self.entry.handler is not None or self.qmp_command is not None

    @property
    def qmp_command(self) -> str | None:
        """The QMP command whose result is printed (``.cmd_info_hrt``); None if a function runs it."""
        function = self.entry.others.get("cmd_info_hrt")
        return None if function is None else function.removeprefix("qmp_").replace("_", "-")


class Table:
    """Commands by all their names. If two commands share a name, the first is called."""

    def __init__(self, commands: Iterable[Command]) -> None:
        self._commands = sorted(commands, key=lambda command: command.name)
        self._by_name: dict[str, Command] = {}
        for command in self._commands:
            for name in command.entry.names:
                self._by_name.setdefault(name, command)

    def find(self, name: str) -> Command | None:
        return self._by_name.get(name)

    def find_also(self, word: str) -> Command | None:
        """Return the command that people mean who type ``word``."""
        return next((each for each in self if word and word in each.other_words), None)

    def everything(self) -> Iterator[tuple[str, Command]]:
        """Yield every command and what is typed for it, ``info block``, in the files' order."""
        for command in sorted(self, key=lambda each: each.entry.line):
            name = command.entry.names[0]
            yield name, command
            if command.sub_table is not None:
                for inner, inner_command in command.sub_table.everything():
                    yield f"{name} {inner}", inner_command

    def under(self, commands: Sequence[Command]) -> Table:
        """Return this table with ``commands`` added; they replace commands that share a name with them."""
        names = {name for command in commands for name in command.entry.names}
        return Table([*commands, *(each for each in self if names.isdisjoint(each.entry.names))])

    def names(self) -> list[str]:
        """All names of all commands, sorted."""
        return sorted(self._by_name)

    def __iter__(self) -> Iterator[Command]:
        """Yield the commands, sorted by name."""
        return iter(self._commands)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of a monitor: the main table, which leads to the sub-tables."""

    main: Table

    def at(self, path: Sequence[str]) -> Table | None:
        """Return the table for the name after these names; None if they don't lead to a table."""
        table: Table | None = self.main
        for name in path:
            command = table.find(name) if table is not None else None
            table = command.sub_table if command is not None else None
        return table

    @classmethod
    def parse(cls, main: str, sub_tables: Mapping[str, tuple[str, str]], file: str = MAIN_FILE) -> Tables:
        """Read a main table and its sub-tables, given as table name to (text, file name).

        Raises HxError for a damaged file or a missing sub-table.
        """
        found = {
            name: Table(Command(entry, sub_file) for entry in read_enabled(text, sub_file))
            for name, (text, sub_file) in sub_tables.items()
        }
        commands = []
        for entry in read_enabled(main, file):
            if entry.sub_table is not None and entry.sub_table not in found:
                expected = ", ".join(sorted(found)) or "none"
                problem = f"expected a known sub_table ({expected}), found '{entry.sub_table}'"
                raise hx.HxError(file, entry.line, problem)
            sub_table = found[entry.sub_table] if entry.sub_table else None
            commands.append(Command(entry, file, sub_table))
        return cls(Table(commands))


def read_enabled(text: str, file: str) -> list[hx.Entry]:
    """Return the entries of a table that are not inside ``#if 0``. Raises HxError."""
    return [entry for entry in hx.read(text, file) if not entry.disabled]


@lru_cache(maxsize=1)
def default_tables() -> Tables:
    """Return the program's own tables, which are read once, at the first call. Raises HxError."""
    folder = resources.files("qmon") / "spec"
    texts = {
        name: ((folder / file).read_text(encoding="utf-8"), file) for name, file in SUB_TABLE_FILES.items()
    }
    return Tables.parse((folder / MAIN_FILE).read_text(encoding="utf-8"), texts)
