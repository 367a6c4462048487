"""Lines that come by QMP's ``human-monitor-command``: each is answered by one text."""

from __future__ import annotations

import asyncio

from qmon.hmp.fronts.script_person import NoProgress
from qmon.hmp.monitor import Monitor
from qmon.hmp.person import Progress
from qmon.host.descriptors import TAKE_RECEIVED
from qmon.notation.plain_text import plain


class PassedLines:
    """Runs lines for QMP clients."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._is_prepared = False

    async def run(self, line: str) -> str:
        """Run a line; return what it prints, errors too, its lines ended by CR LF."""
        if not self._is_prepared:
            await asyncio.to_thread(self._monitor.prepare)  # the loop serves others meanwhile
            self._is_prepared = True
        person = PassedPerson()
        token = TAKE_RECEIVED.set(lambda: None)  # as in QEMU, descriptors are for the client's own commands
        try:
            await self._monitor.run_line(line, person)
        finally:
            TAKE_RECEIVED.reset(token)
        return person.text


class PassedPerson:
    """The Person (``qmon.hmp.person``) behind a passed line: a program that reads the whole answer."""

    interactive = False
    comments = False
    detaches = True

    def __init__(self) -> None:
        self._printed: list[str] = []
        self.history: list[str] = []

    def print(self, text: str) -> None:
        self._printed.append(plain(text).replace("\n", "\r\n") + "\r\n")

    @property
    def text(self) -> str:
        return "".join(self._printed)

    async def ask(self, question: str) -> bool:
        return True

    def progress(self, title: str) -> Progress:
        return NoProgress()
