"""Makes the command tables of a QEMU from what its ``help`` and ``info`` print, and from what is known. Pure.

QEMU decides which commands there are and how their arguments are shown. The program's own tables add what
they know of these commands: the types of arguments, the completion, the help sentence and the manual entry.
They also add the commands that the program itself runs (``.side = "console"``). A command for which the
program has a QMP command of its own (``.ours_with``) is written as in the program's tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from qmon.hmp.tables import hx
from qmon.hmp.tables.table import SUB_TABLE_FILES, Command, Table, Tables

TEXT_MAX = 1 << 20
"""The most characters of a help text that are read: QEMU's have 11,000."""

_START = re.compile(r"(?P<name>[A-Za-z_?][\w?|.+-]*)(?: (?P<rest>.*))?")
_FLAG = re.compile(r"-(\w)(?![\w-])")
_REST = "rest:S?"
"""The arguments of a command about which nothing else is known."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One command of a help text: its whole name (``quit|q``), its syntax and its sentence."""

    name: str
    params: str
    help: str


def read_help(text: str, prefix: str = "") -> list[Usage]:
    """Read ``NAME params -- help`` rows. Params and help may go on in further rows.

    ``prefix`` is what each row of a sub-table begins with, such as ``info ``.
    """
    found: list[Usage] = []
    for row in _rows(text[:TEXT_MAX].replace("\r", ""), prefix):
        match = _START.match(row)
        assert match is not None
        before, _, sentence = row[match.end("name") :].partition(" -- ")
        found.append(Usage(match["name"], before.strip(), sentence.strip()))
    return found


def _rows(text: str, prefix: str) -> Iterator[str]:
    """Join the rows of one command, without the prefix. The next one begins only behind a ``--``."""
    row = ""
    for line in text.split("\n"):
        begins = line.startswith(prefix) and _START.match(line.removeprefix(prefix)) is not None
        if begins and (not row or " -- " in row):
            if row:
                yield row
            row = line.removeprefix(prefix)
        elif row:
            row += f"\n{line}"
    if " -- " in row:
        yield row


def learn(help_text: str, info_text: str, known: Tables, has: frozenset[str] = frozenset()) -> Tables:
    """Return the tables of a QEMU whose ``help`` and ``info`` print these texts.

    ``has`` are its QMP commands, the console's included.
    """
    info = known.at(["info"])
    subjects = Table(_merged(read_help(info_text, "info "), info or Table(()), has))
    commands = []
    for command in _merged(read_help(help_text), known.main, has):
        is_info = command.entry.names[0] == "info"
        commands.append(Command(command.entry, command.file, subjects if is_info else None))
    return Tables(Table(commands))


def _merged(usages: list[Usage], known: Table, has: frozenset[str]) -> Iterator[Command]:
    taken: set[str] = set()
    for usage in usages:
        names = usage.name.split("|")
        if taken.isdisjoint(names):
            taken.update(names)
            own = next((own for name in names if (own := known.find(name)) is not None), None)
            yield _command(usage, own, has)
    for command in known:
        is_ours = command.entry.others.get("side") == "console" or command.ours_with in has
        if is_ours and taken.isdisjoint(command.entry.names):
            yield command


def _command(usage: Usage, own: Command | None, has: frozenset[str]) -> Command:
    if own is None:
        entry = hx.Entry(usage.name, _REST, usage.params, usage.help, handler="", others=_ON_TARGET)
        return Command(entry, "help")
    if own.ours_with in has:
        others = {key: text for key, text in own.entry.others.items() if key != "forms"}
        return Command(replace(own.entry, name=usage.name, others=others | _ON_TARGET), own.file)
    dropped = _dropped(own, usage)
    entry = replace(
        own.entry,
        name=usage.name,
        params=usage.params,
        help=_without(dropped, own.entry.help),
        args_type=",".join(
            str(replace(each, word="")) for each in own.parameters if each.letter not in dropped
        ),
        sub_table=next(iter(SUB_TABLE_FILES)) if own.sub_table is not None else None,
        others={
            key: text for key, text in own.entry.others.items() if key not in ("needs", "forms", "ours_with")
        }
        | _ON_TARGET,
    )
    return Command(entry, own.file)


_ON_TARGET = {"side": "target"}


def _dropped(own: Command, usage: Usage) -> set[str]:
    """Return the letters of flags that only the program's own command has, but for those that it answers."""
    shown_here, shown_there = (set(_FLAG.findall(text)) for text in (own.entry.params, usage.params))
    letters = {each.letter for each in own.parameters if each.is_flag}
    dropped = letters - shown_there if shown_there else letters & shown_here
    return dropped - set(own.entry.others.get("answers", ""))


def _without(letters: set[str], sentence: str) -> str:
    """Return a help sentence without what it says about flags."""
    for letter in letters:
        sentence = re.sub(rf" \(-{letter}:[^)]*\)|\n\s*-{letter}\b[^\n]*", "", sentence)
    return sentence
