"""``help``: in QEMU's form for programs; a person at a terminal is guided (``qmon.hmp.commands.guide``)."""

from __future__ import annotations

from qmon.hmp.commands import works
from qmon.hmp.commands.guide import PAGES, Guide
from qmon.hmp.handlers import Call, handler
from qmon.hmp.line.words import read_word, skip_space
from qmon.hmp.person import LineError
from qmon.hmp.tables.manual import page
from qmon.hmp.tables.table import Command, Table
from qmon.qmp.target import Kind, kind_of

WORDS_MAX = 16
"""QEMU's limit: help with more words prints nothing."""


@handler("hmp_help")
async def help_(call: Call) -> None:
    if call.person.interactive:
        call.print(await Guide(call).answer(call.text("name").split()))
        return
    words = _words(call.text("name"))
    if words[:1] == [PAGES]:
        _print_page(call, words[1:])
    else:
        _print_help(call, call.monitor.tables.main, words, [])


@handler("hmp_info_help")
async def info_help(call: Call) -> None:
    if call.person.interactive:
        call.print(await Guide(call).answer([call.typed]))
    else:
        _print_help(call, call.monitor.tables.main, [call.typed], [])


def _words(text: str) -> list[str]:
    words: list[str] = []
    position = 0
    while skip_space(text, position) < len(text):
        word = read_word(text, position)
        if word is None or len(words) == WORDS_MAX:
            raise LineError("")
        words.append(word.text)
        position = word.end
    return words


def _print_help(call: Call, table: Table, words: list[str], path: list[str]) -> None:
    """Print the help of the command that the words name, or of all commands of a table."""
    if not words:
        target = call.monitor.target
        for entry in table:
            if kind_of(target) is not Kind.STORAGE_DAEMON or works(entry, target):
                call.print(_usage(entry, path))
        return
    command = table.find(words[0])
    if command is None:
        raise LineError(f"unknown command: '{' '.join([*path, words[0]])}'")
    if command.sub_table is not None:
        _print_help(call, command.sub_table, words[1:], [*path, words[0]])
    else:
        call.print(_usage(command, path))


def _print_page(call: Call, words: list[str]) -> None:
    """Print the manual page of the command that the words name."""
    if not words:
        raise LineError(f"help {PAGES}: name a command, as in 'help {PAGES} migrate'")
    found = call.monitor.read(" ".join(words), comments=False)
    if found.command is None or len(found.names) < len(words):
        raise LineError(f"unknown command: '{' '.join(words)}'")
    call.print(page(found.command) or _usage(found.command, words[:-1]))


def _usage(command: Command, path: list[str]) -> str:
    """Return ``NAME params -- help``; ``path`` are the names of the tables above the command."""
    return " ".join([*path, command.name, command.entry.params, "--", command.entry.help])
