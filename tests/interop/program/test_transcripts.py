"""The transcripts in the README and in the manual's first steps are what the program shows, played anew.

A block is played where the comment above it says, ``.. at: source``: each place has a terminal of its own.
What stands behind a prompt is typed; the rest is what appears. ``...`` stands for any text.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.images import MIB
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.processes import CHECKOUT
from tests.support.terminal import Terminal
from tests.support.vms.disks import Filling
from tests.support.vms.pair import Pair, Setup

PAGES = ("README.rst", "docs/first-steps.rst")
PORTS = ("4444", "4445")
"""The ports in the transcripts; free ones are taken in their places."""
COLUMNS, ROWS = 140, 50

_BLOCK = re.compile(r"^\.\. at: (\w+)\n\n::\n\n((?: {4}.*\n|\n)+)", re.MULTILINE)
_PROMPT = r"(?:\$|\(qemu[^)]*\)) ?"
_TYPED = re.compile(r"(\$|\(qemu[^)]*\)) (.*)")
_NUMBER = r"\d+(?:\.\d+)?"
_SIZE = r" (?:[KMG]i)?B\b"
_BY_CHANCE = re.compile(
    r"^(?:An NBD client .*connected .*|Ctrl-C returns to the prompt; the migration goes on)\n", re.MULTILINE
)
"""What is told on a busy machine: of a client that stays for more than a moment, and of a long migration."""


def blocks(page: str) -> list[tuple[str, list[str]]]:
    """The blocks of a page: the place of each, and its lines."""
    found = _BLOCK.findall((CHECKOUT / page).read_text(encoding="utf-8"))
    return [(place, [line[4:] for line in text.rstrip().split("\n")]) for place, text in found]


def pattern(line: str) -> str:
    """What a shown line has to match: numbers and sizes are never the same twice."""
    wanted = ""
    for piece in re.split(rf"(\.\.\.|{_NUMBER}(?:{_SIZE})?)", line):
        if piece == "...":
            wanted += ".*"
        elif re.fullmatch(rf"{_NUMBER}{_SIZE}", piece):
            wanted += _NUMBER + _SIZE
        else:
            wanted += _NUMBER if re.fullmatch(_NUMBER, piece) else re.escape(piece)
    return wanted


class Place:
    """A terminal, and what has to be on it."""

    def __init__(self, terminal: Terminal, ports: Mapping[str, int]) -> None:
        self.terminal = terminal
        self._ports = ports
        self._expected: list[str] = []

    def play(self, lines: list[str]) -> None:
        """Type what is typed, each line once everything before it is on the screen."""
        for line in lines:
            typed = _TYPED.fullmatch(line)
            if typed is None:
                self._expected.append(pattern(line))
                continue
            self._wait(rf"{re.escape(typed[1])} ?")
            text = typed[2]
            for port, free in self._ports.items():
                text = text.replace(port, str(free))
            self.terminal.type(f"{text}\r")
            self._expected.append(pattern(line))
        self._wait(_PROMPT)

    def _wait(self, prompt: str) -> None:
        wanted = re.compile(r"\n".join([*self._expected, prompt]))
        self.terminal.wait_until(
            lambda screen: wanted.fullmatch(_BY_CHANCE.sub("", screen)) is not None, wanted.pattern
        )


@contextlib.contextmanager
def terminal(folder: Path, place: str) -> Iterator[Terminal]:
    environ = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(CHECKOUT),
        "XDG_STATE_HOME": str(folder / f"state-{place}"),
    }
    # a terminal's socket has a short name
    terminal = Terminal(Path(tempfile.mkdtemp(dir=folder), "t"), COLUMNS, ROWS, **environ)
    try:
        terminal.type(f"cd {folder}; clear\r")
        terminal.wait_for_end("$ ")
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize("page", PAGES)
def test_a_transcript_is_true(page: str) -> None:
    require("qemu-io")
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="qmon-"))
        stack.callback(shutil.rmtree, folder)
        (folder / "bin").mkdir()
        program = folder / "bin" / "qmon"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m qmon "$@"\n')
        program.chmod(0o755)
        with (folder / "disk.img").open("wb") as disk:
            disk.write(random.Random(1).randbytes(200 * MIB))
            disk.truncate(256 * MIB)
        if "hostA" in dict(blocks(page)):
            pair = Pair(folder / "vms", Setup(filling=Filling(64 * MIB, 16 * MIB)))
            stack.enter_context(pair)
            for machine in pair.machines:
                (folder / machine.qmp_path.name).symlink_to(machine.qmp_path)
        ports = {port: free_port() for port in PORTS}
        places: dict[str, Place] = {}
        for place, lines in blocks(page):
            if place not in places:
                places[place] = Place(stack.enter_context(terminal(folder, place)), ports)
            places[place].play(lines)
        assert {"source", "destination"} <= set(places)
        for played in places.values():
            if played.terminal.screen().endswith("(qemu) "):
                played.terminal.type("quit\r")
                played.terminal.wait_for_end("$ ")


@pytest.mark.parametrize("page", PAGES)
def test_every_transcript_says_where_it_is_typed(page: str) -> None:
    """So that none is left out: a block with an answer under a prompt is one of those that are played."""
    text = _BLOCK.sub("", (CHECKOUT / page).read_text(encoding="utf-8"))
    assert re.findall(r"^ {4}\$ qmon .*\n {4}qmon", text, re.MULTILINE) == []
