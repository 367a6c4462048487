"""A qemu-storage-daemon, and lines that run on it through qmon's monitor, over its QMP socket."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.editing.completion import complete
from qmon.hmp.monitor import Monitor
from qmon.qmp.events import EventBus
from qmon.qmp.target import Arguments, Event, Listener
from tests.support.fake_target import FakePerson
from tests.support.waiting import PATIENCE, connect_when_there

DAEMON_7 = ("qemu-storage-daemon",)
DAEMON_10 = ("/opt/qemu10/run", "qemu-storage-daemon")
DAEMONS = {"7.2": DAEMON_7, "10": DAEMON_10}


class StorageDaemon:
    """A storage daemon that runs in a folder; its QMP socket is ``qmp`` there."""

    def __init__(self, program: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "qmp"
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *program,
                    "--chardev",
                    "socket,id=m,path=qmp,server=on,wait=off",
                    "--monitor",
                    "m",
                ],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        connect_when_there(self.socket, PATIENCE).close()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


class _SocketTarget:
    """A Target over a QMP socket: one command at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._events = EventBus()
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._commands: frozenset[str] = frozenset()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._read())
        await self._answers.get()  # the greeting
        await self.execute("qmp_capabilities")
        self._commands = frozenset(each["name"] for each in await self.execute("query-commands"))

    async def _read(self) -> None:
        while line := await self._reader.readline():
            message = json.loads(line)
            if "event" in message:
                self._events.emit(message["event"], message.get("data"))
            else:
                self._answers.put_nowait(message)

    async def close(self) -> None:
        self._task.cancel()
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    def commands(self) -> frozenset[str]:
        return self._commands

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        async with self._turn:
            message = {"execute": command, "arguments": dict(arguments or {})}
            self._writer.write(json.dumps(message).encode() + b"\n")
            answer = await self._answers.get()
        if "error" in answer:
            raise CommandError(answer["error"]["desc"], answer["error"]["class"])
        return answer["return"]

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self._events.subscribe(listener)


class Seat:
    """Runs lines on a storage daemon, each in turn, from a test that is not asynchronous."""

    def __init__(self, daemon: StorageDaemon) -> None:
        self.daemon = daemon
        self.folder = daemon.folder
        self._runner = asyncio.Runner()
        self._target = self._runner.run(self._connect())
        self.events: list[Event] = []
        self._target.subscribe(self.events.append)
        self.monitor = Monitor(self._target)

    async def _connect(self) -> _SocketTarget:
        # An answer of QMP is one line, which may be long.
        target = _SocketTarget(*await asyncio.open_unix_connection(self.daemon.socket, limit=1 << 24))
        await target.start()
        return target

    def close(self) -> None:
        self._runner.run(self._target.close())
        self._runner.close()

    def says(self, line: str, *, interactive: bool = False) -> str:
        """What a line prints; its error, too."""
        person = FakePerson(interactive=interactive)
        self._runner.run(self.monitor.run_line(line, person))
        return person.said()

    def quietly(self, *lines: str) -> None:
        """Run lines that print nothing."""
        said = {line: answer for line in lines if (answer := self.says(line))}
        assert not said, said

    def qmp(self, command: str, arguments: Arguments | None = None) -> Any:
        return self._runner.run(self._target.execute(command, arguments))

    def offered(self, text: str) -> list[str]:
        """What TAB offers behind a text."""
        return [each.text for each in self._runner.run(complete(self.monitor, text))]
