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
    """One entry with its arguments read and its sub-table found. ``file`` is for error messages."""

    def __init__(self, entry: hx.Entry, file: str, sub_table: Table | None = None) -> None:
        self.entry = entry
        self.sub_table = sub_table
        self.file = file

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The arguments in the table's order. Raises HxError for an ``args_type`` that can't be read."""
        try:
            return parse_signature(self.entry.args_type)
        except UsageError as error:
            raise hx.HxError(self.file, self.entry.line, str(error)) from error

    @property
    def name(self) -> str:
        """The table's whole name: ``quit|q``."""
        return self.entry.name

    @cached_property
    def inner_line(self) -> Parameter | None:
        """The argument that is a line of its own, up to the end of the line."""
        last = self.parameters[-1] if self.entry.completion == LINE_COMPLETION else None
        return last if last is not None and last.kind == "S" else None

    @property
    def available(self) -> bool:
        """Whether the table names a function for it."""
        return self.entry.handler is not None or "cmd_info_hrt" in self.entry.others


class Table:
    """Commands by each of their names. Two commands of one name: the first is called."""

    def __init__(self, commands: Iterable[Command]) -> None:
        self._commands = sorted(commands, key=lambda command: command.name)
        self._by_name: dict[str, Command] = {}
        for command in self._commands:
            for name in command.entry.names:
                self._by_name.setdefault(name, command)

    def find(self, name: str) -> Command | None:
        return self._by_name.get(name)

    def under(self, commands: Sequence[Command]) -> Table:
        """This table without the commands of which one of these has a name, and with these."""
        names = {name for command in commands for name in command.entry.names}
        return Table([*commands, *(each for each in self if names.isdisjoint(each.entry.names))])

    def names(self) -> list[str]:
        """Every name of every command, sorted."""
        return sorted(self._by_name)

    def __iter__(self) -> Iterator[Command]:
        """The commands, sorted by the table's names."""
        return iter(self._commands)


@dataclass(frozen=True, slots=True)
class Tables:
    """What a monitor knows: the main table, and through it the sub-tables."""

    main: Table

    def at(self, path: Sequence[str]) -> Table | None:
        """The table in which what follows these names is looked up; None when no command has them."""
        table: Table | None = self.main
        for name in path:
            command = table.find(name) if table is not None else None
            table = command.sub_table if command is not None else None
        return table

    @classmethod
    def parse(cls, main: str, sub_tables: Mapping[str, tuple[str, str]], file: str = MAIN_FILE) -> Tables:
        """Read a main table and the sub-tables that it names: table name to (text, file name).

        Raises HxError for a damaged file or a sub-table that is not there.
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
    """The entries of a table that any program built from it has. Raises HxError."""
    return [entry for entry in hx.read(text, file) if not entry.disabled]


@lru_cache(maxsize=1)
def default_tables() -> Tables:
    """The tables of this program, read once when they are first needed. Raises HxError."""
    folder = resources.files("qmon") / "spec"
    texts = {
        name: ((folder / file).read_text(encoding="utf-8"), file) for name, file in SUB_TABLE_FILES.items()
    }
    return Tables.parse((folder / MAIN_FILE).read_text(encoding="utf-8"), texts)
