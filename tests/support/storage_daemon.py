"""A qemu-storage-daemon, and lines that run on it through qmon's monitor, over its QMP socket."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qmon.hmp.editing.completion import complete
from qmon.hmp.monitor import Monitor
from qmon.qmp.target import Arguments, Event
from qmon.remote.address import parse_remote
from qmon.remote.greeting import Patience
from qmon.remote.opening import make_remote
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
        # It serves one client at a time, so this one must be its first.
        self.first = connect_when_there(self.socket, PATIENCE)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


class Seat:
    """Runs lines on a storage daemon, each in turn, from a test that is not asynchronous."""

    def __init__(self, daemon: StorageDaemon) -> None:
        self.daemon = daemon
        self.folder = daemon.folder
        self._runner = asyncio.Runner()
        self._target = make_remote(parse_remote(f"fd:{daemon.first.detach()}"), Patience())
        self._runner.run(self._target.open())
        self.events: list[Event] = []
        self._target.subscribe(self.events.append)
        self.monitor = Monitor(self._target)

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
