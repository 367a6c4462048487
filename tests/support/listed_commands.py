"""The commands that a program lists, and lines that use each of them wrongly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tests.support.peer import Answer, Peer

WRONG = ("", " nosuch", " -x", ' "', ' ""', " 0", " nosuch nosuch")
"""What is written behind each command's name."""

_START = re.compile(r"[\w?]")


def listed(lines: Answer, prefix: str = "") -> dict[str, str]:
    """The entries of a listing in its order: each name, as the table has it, and its syntax.

    An entry is ``NAME SYNTAX -- SENTENCE``; syntax and sentence may go on in lines that begin with white
    space or a bracket. ``prefix`` stands before each name.
    """
    entries: dict[str, str] = {}
    entry = ""
    for line in [*lines, "end"]:
        if not _START.match(line):
            entry += "\n" + line
            continue
        if entry:
            name, _, syntax = entry.partition(" -- ")[0].removeprefix(prefix).partition(" ")
            entries[prefix + name] = syntax
        entry = line
    return entries


def listings(peer: Peer) -> dict[str, str]:
    """All that ``help`` and ``info`` list, in their order."""
    return {**listed(peer.lines("help")), **listed(peer.lines("info"), "info ")}


def all_lines(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        first, _, rest = name.rpartition(" ")
        for alias in rest.split("|"):
            for wrong in WRONG:
                yield f"{first} {alias}".lstrip() + wrong
