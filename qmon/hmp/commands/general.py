"""Help, the history, ``print`` and ``quit``."""

from __future__ import annotations

from qmon.hmp.commands.caution import confirm
from qmon.hmp.ending import cut_off
from qmon.hmp.handlers import Call, handler
from qmon.hmp.line.words import read_word, skip_space
from qmon.hmp.person import LineError
from qmon.hmp.tables.manual import page
from qmon.hmp.tables.table import Command, Table

HELP_WORDS_MAX = 16
"""QEMU's limit: help with more words prints nothing."""

PAGES = "-v"
"""Before a command's name, it asks for the manual page. Not a flag in the table: ``-x`` may be a name."""


@handler("hmp_help")
async def help_(call: Call) -> None:
    words: list[str] = []
    text = call.text("name")
    position = 0
    while skip_space(text, position) < len(text):
        word = read_word(text, position)
        if word is None or len(words) == HELP_WORDS_MAX:
            raise LineError("")
        words.append(word.text)
        position = word.end
    if words[:1] == [PAGES]:
        _print_page(call, words[1:])
    else:
        _print_help(call, call.monitor.tables.main, words, [])


@handler("hmp_info_help")
async def info_help(call: Call) -> None:
    _print_help(call, call.monitor.tables.main, [call.typed], [])


def _print_help(call: Call, table: Table, words: list[str], path: list[str]) -> None:
    """Print the help of the command that the words name, or of all commands of a table."""
    if not words:
        for entry in table:
            call.print(help_line(entry, path))
        return
    command = table.find(words[0])
    if command is None:
        raise LineError(f"unknown command: '{' '.join([*path, words[0]])}'")
    if command.sub_table is not None:
        _print_help(call, command.sub_table, words[1:], [*path, words[0]])
    else:
        call.print(help_line(command, path))


def _print_page(call: Call, words: list[str]) -> None:
    """Print the manual page of the command that the words name."""
    if not words:
        raise LineError(f"help {PAGES}: name a command, as in 'help {PAGES} migrate'")
    found = call.monitor.read(" ".join(words), comments=False)
    if found.command is None or len(found.names) < len(words):
        raise LineError(f"unknown command: '{' '.join(words)}'")
    call.print(page(found.command) or help_line(found.command, words[:-1]))


def help_line(command: Command, path: list[str]) -> str:
    """Return ``NAME params -- help``; ``path`` are the names of the tables above the command."""
    return " ".join([*path, command.name, command.entry.params, "--", command.entry.help])


@handler("hmp_quit")
async def quit_(call: Call) -> None:
    if call.person.interactive and (found := await cut_off(call.monitor.line_target)):
        for each in map(str, found):
            call.print(each[0].upper() + each[1:])
        await confirm(call, "Quit anyway?", "qmon keeps running")
    await call.execute("quit")
    call.monitor.quitting = True


@handler("hmp_info_history")
async def info_history(call: Call) -> None:
    for number, line in enumerate(call.person.history):
        call.print(f"{number}: '{line}'")


@handler("hmp_print")
async def print_(call: Call) -> None:
    value = int(call.values["val"])
    call.print(format_integer(value, call.text("format")))


def format_integer(value: int, format_: str) -> str:
    """Return a signed 64-bit value in ``print``'s format ``o``, ``x``, ``u``, ``c``, or else decimal."""
    unsigned = value & ((1 << 64) - 1)
    match format_:
        case "o":
            return f"0{unsigned:o}" if unsigned else "0"
        case "x":
            return f"{unsigned:#x}" if unsigned else "0"
        case "u":
            return str(unsigned)
        case "c":
            return f"'{_character(value & 0xFFFFFFFF)}'"
    return str(value)


def _character(code: int) -> str:
    special = {ord("'"): r"\'", ord("\\"): r"\\", 10: r"\n", 13: r"\r"}
    if code in special:
        return special[code]
    return chr(code) if 32 <= code <= 126 else f"\\x{code:02x}"
