"""The embedded console's monitor on a real QEMU, beside that QEMU's own monitor."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qmon.hmp.monitor import Monitor
from qmon.qmp.target import Arguments, Event
from tests.support.fake_target import FakePerson
from tests.support.peer import NOISE, QEMU_7, Peer, three_drives
from tests.support.qmp_client import QmpClient

_NOISE = (*NOISE, (re.compile(r"(?m)^(\S[^\n]*?) -- .*(\n\s+\S.*)*$"), r"\1 -- ..."))


def named_qemu(folder: Path, *options: str) -> Peer:
    """A QEMU with a name and three drives."""
    return Peer(QEMU_7, folder, three_drives, options=["-name", "web1", *options])


class QmpTarget:
    """A real QEMU as a target: one command at a time over its QMP socket."""

    def __init__(self, client: QmpClient) -> None:
        self._client = client
        self._commands = frozenset(entry["name"] for entry in client.run("query-commands"))

    def commands(self) -> frozenset[str]:
        return self._commands

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        return self._client.run(command, arguments)

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        return lambda: None


def ours(monitor: Monitor, lines: Sequence[str]) -> list[str]:
    """What the lines print by qmon's monitor."""

    async def run() -> list[str]:
        person = FakePerson(interactive=False, comments=False)
        answers = []
        for line in lines:
            if line:
                person.history.append(line)
            await monitor.run_line(line, person)
            answers.append(person.said().replace("\r", ""))  # as the reader of QEMU's answers has it
        return answers

    return asyncio.run(run())


def _quiet(text: str) -> str:
    for pattern, mark in _NOISE:
        text = pattern.sub(mark, text)
    return text


def compare(qemu: Peer, monitor: Monitor, lines: Sequence[str]) -> None:
    """Put the lines to both in turn; show all that differ at once."""
    theirs = {f"{number}: {line}": _quiet(qemu.command(line)) for number, line in enumerate(lines)}
    mine = {
        f"{number}: {line}": _quiet(answer)
        for number, (line, answer) in enumerate(zip(lines, ours(monitor, lines), strict=True))
    }
    assert mine == theirs
