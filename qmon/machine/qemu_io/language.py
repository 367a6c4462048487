"""The language of qemu-io: runs one command on one disk (QEMU: qemu-io-cmds.c).

QEMU's standard output and standard error are returned as lines and complaints; the caller prints them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from qmon.block.accounts import Counters
from qmon.machine.qemu_io import requests as io
from qmon.machine.qemu_io.requests import Given, Medium, Outcome
from qmon.machine.qemu_io.text import (
    RequestError,
    read_number,
    read_pattern,
    scan,
)

__all__ = ["COMMANDS", "Medium", "Outcome", "run"]


@dataclass(frozen=True, slots=True)
class _Command:
    """A row of the command table. ``letters`` is getopt's string; ``least`` and ``most`` count arguments."""

    name: str
    alias: str
    least: int
    most: int | None
    letters: str
    syntax: str | None
    meaning: str
    run: Callable[[Given, Medium, Outcome], None]
    writes: bool = False
    counted: bool = False
    """Whether QEMU counts its requests in the drive's statistics."""


def run(line: str, medium: Medium) -> Outcome:
    """Run one line. Blocks. Errors are in the outcome."""
    outcome = Outcome()
    words = line.split()
    if not words:
        return outcome
    command = _find(words[0])
    if command is None:
        outcome.complaints.append(f'command "{words[0]}" not found')
        outcome.failed = True
        return outcome
    problem = _count_problem(command, len(words) - 1)
    if problem:
        outcome.complaints.append(problem)
        outcome.failed = True
        return outcome
    try:
        _run(command, words[1:], medium, outcome)
    except RequestError as refused:
        outcome.lines.append(str(refused))
        outcome.failed = True
    return outcome


def _run(command: _Command, words: list[str], medium: Medium, outcome: Outcome) -> None:
    if command.writes and medium.node.read_only:
        raise RequestError("Block node is read-only")
    given = Given(command.name, _one_line(command), {}, [])
    for letter, value in scan(words, command.letters) if command.letters else (("", word) for word in words):
        if letter == "?":
            outcome.complaints.append(f"{command.name}: unknown option, or option without value -- '{value}'")
            raise RequestError(given.usage)
        if letter == "":
            given.words.append(value)
            continue
        _check_option(command, letter, value)  # in the order of the line, as QEMU does
        given.options[letter] = value
    command.run(given, medium if command.counted else replace(medium, counters=Counters()), outcome)


def _check_option(command: _Command, letter: str, value: str) -> None:
    """Check an option's value; ``-s`` of a write is a file name. Raises RequestError."""
    if letter == "P":
        read_pattern(value)
    elif letter in "ls" and not command.writes:
        read_number(value)


def _find(name: str) -> _Command | None:
    return next((command for command in COMMANDS if name in (command.name, command.alias)), None)


def _count_problem(command: _Command, count: int) -> str:
    if command.least <= count and (command.most is None or count <= command.most):
        return ""
    if command.most is None:
        expected = f"at least {command.least}"
    elif command.most == command.least:
        expected = f"exactly {command.least}"
    else:
        expected = f"between {command.least} and {command.most}"
    return f"bad argument count {count} to {command.name}, expected {expected} arguments"


def _one_line(command: _Command) -> str:
    syntax = "" if command.syntax is None else f"{command.syntax} "
    return f"{command.name} {syntax}-- {command.meaning}"


def _help(given: Given, medium: Medium, outcome: Outcome) -> None:
    if not given.words:
        outcome.lines += [_one_line(command) for command in COMMANDS]
        return
    command = _find(given.words[0])
    if command is None:
        raise RequestError(f"command {given.words[0]} not found")
    outcome.lines.append(_one_line(command))


def _undebugged(problem: str) -> Callable[[Given, Medium, Outcome], None]:
    """Return the function of a breakpoint command: it always fails, because breakpoints are not supported."""

    def fail(given: Given, medium: Medium, outcome: Outcome) -> None:
        raise RequestError(f"{problem.format(given.words[-1])}: Operation not supported")

    return fail


_READ_SYNTAX = "[-abCqv] [-P pattern [-s off] [-l len]] off len"
_AIO_WRITE_SYNTAX = "[-Cfiquz] [-P pattern] off len [len..]"
_WRITEV_SYNTAX = "[-Cfq] [-P pattern] off len [len..]"
_WRITE_SYNTAX = "[-bcCfnquz] [-P pattern | -s source_file] off len"

_NO_BREAK = _undebugged("Could not set breakpoint")
_NO_REMOVE = _undebugged("Could not remove breakpoint {}")
_NO_RESUME = _undebugged("Could not resume request")

COMMANDS = (
    _Command("aio_flush", "", 0, 0, "", None, "wait for all requests", io.wait_for_all, counted=True),
    _Command(
        "aio_read",
        "",
        2,
        None,
        "CiP:qv",
        "[-Ciqv] [-P pattern] off len [len..]",
        "read",
        io.read_vector,
        counted=True,
    ),
    _Command(
        "aio_write", "", 2, None, "CfiP:quz", _AIO_WRITE_SYNTAX, "write", io.write_vector, True, counted=True
    ),
    _Command("alloc", "a", 1, 2, "", "offset [count]", "show how much of a range is allocated", io.alloc),
    _Command("break", "", 2, 2, "", "event tag", "set a breakpoint (not supported)", _NO_BREAK),
    _Command(
        "discard",
        "d",
        2,
        None,
        "Cq",
        "[-Cq] off len",
        "discard a range",
        io.discard,
        True,
    ),
    _Command("flush", "f", 0, 0, "", None, "flush writes to stable storage", io.flush_disk),
    _Command("help", "?", 0, 1, "", "[command]", "list all commands or show one", _help),
    _Command("info", "i", 0, 0, "", None, "show the image's format", io.info),
    _Command("length", "l", 0, 0, "", None, "show the disk's size", io.length),
    _Command("map", "", 0, 0, "", "", "list allocated and unallocated ranges", io.map_),
    _Command("read", "r", 2, None, "bCl:pP:qs:v", _READ_SYNTAX, "read data; compare or show it", io.read),
    _Command("readv", "", 2, None, "CP:qv", "[-Cqv] [-P pattern] off len [len..]", "read", io.read_vector),
    _Command("remove_break", "", 1, 1, "", "tag", "remove a breakpoint (not supported)", _NO_REMOVE),
    _Command("resume", "", 1, 1, "", "tag", "resume a stopped request (not supported)", _NO_RESUME),
    _Command("write", "w", 2, None, "bcCfnpP:qs:uz", _WRITE_SYNTAX, "write a pattern", io.write, True),
    _Command("writev", "", 2, None, "CfqP:", _WRITEV_SYNTAX, "write a pattern", io.write_vector, True),
)
"""Sorted by name."""
