"""Puts the tables of ``-hx``, such as those of a QEMU release, on top of the program's own.

A file's entries belong to the main table, or to the table of ``info`` if the file's name ends with
``-info.hx`` or it is given as ``info=FILE``. An entry replaces all entries of its table that have one of its
names; other entries are added. A later file replaces entries of an earlier one. If entries of one file share
a name, the first is used.

An entry calls the function that it names, if it has the same arguments as the program's own entry for that
function; old names of functions are translated (``renamed``). A command without such a function is known but
not available.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from qmon.errors import QmonError, reason
from qmon.hmp.tables import hx
from qmon.hmp.tables.renamed import RENAMED
from qmon.hmp.tables.signature import WORD_KINDS, Parameter
from qmon.hmp.tables.table import (
    SUB_TABLE_FILES,
    Command,
    Table,
    Tables,
    default_tables,
    read_enabled,
)
from qmon.notation.units import MIB

INFO_PREFIX = "info="
INFO_SUFFIX = "-info.hx"
_INFO = next(iter(SUB_TABLE_FILES))
_INFO_NAMES = (_INFO, "info_cmds")
"""The names of the table of ``info`` in ``.sub_table``; the second is from QEMU 1.3 to 4.0."""

FILE_BYTES_MAX = MIB
"""The most bytes of a file, which take some seconds to read. QEMU's own files have 90 KB."""


@dataclass(frozen=True, slots=True)
class GivenFile:
    """A file's text, its name in messages, and whether its entries belong to ``info``."""

    name: str
    text: str
    is_info: bool


def read_given(arguments: Sequence[str], read_file: Callable[[str, int], bytes]) -> Tables:
    """Return the program's tables with the files of all ``-hx`` on top. Raises QmonError, such as HxError.

    ``read_file(name, limit)`` returns a file's contents of at most ``limit`` bytes, or raises OSError or
    ValueError.
    """
    files = []
    for argument in arguments:
        name = argument.removeprefix(INFO_PREFIX)
        try:
            text = read_file(name, FILE_BYTES_MAX).decode("utf-8", "surrogateescape")
        except (OSError, ValueError) as error:
            raise QmonError(f"-hx {name}: {reason(error)}") from error
        files.append(GivenFile(name, text, name != argument or name.endswith(INFO_SUFFIX)))
    return lay_over(default_tables(), files)


def lay_over(tables: Tables, files: Iterable[GivenFile]) -> Tables:
    """Return tables with the files' entries on top, in order. Raises HxError if a file is damaged."""
    main, info = tables.main, Table(())
    for command in main:
        if command.entry.sub_table == _INFO and command.sub_table is not None:
            info = command.sub_table
    functions = {name: command for command in (*main, *info) for name in _functions(command.entry)}
    for file in files:
        commands = [
            Command(entry, file.name, _sub_table(entry, file, main))
            for entry in _with_own_functions(read_enabled(file.text, file.name), file.name, functions)
        ]
        if not commands:
            raise hx.HxError(file.name, 1, "expected an entry such as '{ .name = \"...\", },', found none")
        if file.is_info:
            info = info.under(commands)
        else:
            main = main.under(commands)
    return Tables(Table(Command(each.entry, each.file, each.sub_table and info) for each in main))


def _functions(entry: hx.Entry) -> Iterator[str]:
    if entry.handler is not None:
        yield entry.handler
    if "cmd_info_hrt" in entry.others:
        yield entry.others["cmd_info_hrt"]


def _sub_table(entry: hx.Entry, file: GivenFile, below: Table) -> Table | None:
    """Return an entry's sub-table; an entry of 2009 gets that of the entry it replaces.

    The result only marks the entry: ``lay_over`` sets the final table of ``info``.
    """
    if entry.sub_table is None:
        replaced = [command for name in entry.names if (command := below.find(name)) is not None]
        return next((command.sub_table for command in replaced if command.sub_table), None)
    if entry.sub_table not in _INFO_NAMES:
        expected = " or ".join(_INFO_NAMES)
        problem = f"expected the sub_table {expected}, found '{entry.sub_table}'"
        raise hx.HxError(file.name, entry.line, problem)
    return below


def _with_own_functions(
    entries: Iterable[hx.Entry], file: str, functions: dict[str, Command]
) -> Iterator[hx.Entry]:
    taken: set[str] = set()
    for entry in entries:
        parameters = Command(entry, file).parameters
        if taken.issuperset(entry.names):
            continue
        taken.update(entry.names)
        called = RENAMED.get(entry.handler or "", entry.handler)
        own = functions.get(called or "")
        if called is None or own is None:
            yield entry
            continue
        if parameters and ":" not in entry.args_type:
            parameters = _with_keys(parameters, own.parameters)
        if not _fits(parameters, own.parameters):
            yield replace(entry, handler=None)
        elif called.startswith("qmp_"):
            yield replace(entry, handler=None, others={**entry.others, "cmd_info_hrt": called})
        else:
            args_type = ",".join(map(str, parameters))
            completion = entry.completion or own.entry.completion
            yield replace(entry, handler=called, args_type=args_type, completion=completion)


def _sort(parameter: Parameter) -> tuple[str, bool]:
    """Return the part of a parameter's type that matters to a function."""
    return (
        "s" if parameter.kind in WORD_KINDS or parameter.kind == "S" else parameter.kind,
        parameter.takes_value,
    )


def _with_keys(keyless: Sequence[Parameter], own: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """Give keyless parameters the keys of our own: flags by letter, arguments by position."""
    letters = {each.letter: each.key for each in own if each.is_flag}
    keys = iter([each.key for each in own if not each.is_flag])
    return tuple(
        replace(each, key=letters.get(each.letter, each.key) if each.is_flag else next(keys, each.key))
        for each in keyless
    )


def _fits(parameters: Sequence[Parameter], own: Sequence[Parameter]) -> bool:
    """Whether a function gets all arguments that it needs and none that it does not know."""
    given = {each.key: each for each in parameters}
    known = {each.key: each for each in own}
    return all(key in known and _sort(known[key]) == _sort(each) for key, each in given.items()) and all(
        each.may_be_absent or (key in given and not given[key].may_be_absent) for key, each in known.items()
    )
