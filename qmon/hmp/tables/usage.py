"""A command's usage as a person reads it: QEMU's syntax with every flag that the table declares. Pure."""

from __future__ import annotations

import re

from qmon.hmp.tables.table import Command


def syntax(path: str, command: Command) -> list[str]:
    """Return the lines of a command's syntax; ``path`` are the names before the command's own."""
    params = command.entry.params.removeprefix(f"{command.entry.names[0]} ")
    missing = ""
    for flag in command.parameters:
        if not flag.is_flag:
            continue
        shown = f"-{flag.letter}|{flag.word}" if flag.word else f"-{flag.letter}"
        if not re.search(rf"-{flag.letter}\b", params):
            missing += f"[{shown}] "
        elif flag.word not in params:
            params = params.replace(f"[-{flag.letter}]", f"[{shown}]")
    return f"{path} {command.name} {missing}{params}".strip().split("\n")


def forms(command: Command) -> list[str]:
    """Return the lines that explain a command's arguments or show how it is written (``.forms``)."""
    return [line for line in command.entry.others.get("forms", "").split("\n") if line]


def usage(path: str, command: Command) -> list[str]:
    """Return the lines for a person who has left out an argument: the syntax and its forms."""
    first, *others = syntax(path, command)
    return [f"Usage: {first}", *others, *(f"  {line}" for line in forms(command))]
