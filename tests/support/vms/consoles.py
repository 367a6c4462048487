"""Two consoles on the QEMUs of a pair: one where the guest is, one where it goes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.support.ports import free_port
from tests.support.processes import CHECKOUT, QMON, may_fork
from tests.support.starter import Forked, starter
from tests.support.terminal import Terminal
from tests.support.vms.machine import Machine
from tests.support.vms.pair import Pair
from tests.support.waiting import PATIENCE, eventually

HOST = "127.0.0.1"
START_PATIENCE = 120.0
"""Seconds in which a console starts, be it on a machine that has much else to do."""


def environment(folder: Path) -> dict[str, str]:
    """The environment of a console: its history is in a folder, its sockets are among temporary files."""
    given = {"PYTHONPATH": str(CHECKOUT), "XDG_STATE_HOME": str(folder), "XDG_RUNTIME_DIR": ""}
    return {**os.environ, **given}


class Script:
    """``qmon -connect`` on a machine; it takes lines, and what it prints is kept in a file.

    It ends at the end of its lines, or when a line fails, as every script does.
    """

    def __init__(self, machine: Machine, *options: str, lines: Sequence[str] | None = None) -> None:
        """Start it; with ``lines`` these are all that it gets."""
        self.machine = machine
        self._log = machine.folder / f"{machine.name}.console"
        given = [word for line in lines or () for word in ("-c", line)]
        words, environ = ["-connect", machine.address, *options, *given], environment(machine.folder)
        with self._log.open("ab") as log:
            self._from = log.tell()
            streams = [subprocess.PIPE, log.fileno(), log.fileno()]
            self.process: subprocess.Popen[bytes] | Forked
            if may_fork():
                self.process = starter().start(
                    words, cwd=machine.folder, streams=streams, environment=environ
                )
            else:
                stdin, stdout, stderr = streams
                self.process = subprocess.Popen(
                    [*QMON, *words],
                    cwd=machine.folder,
                    env=environ,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                )

    def type(self, *lines: str) -> None:
        """Give it more lines."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.process.stdin.flush()

    def end_lines(self) -> None:
        """Say that there are no more lines."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()

    def printed(self) -> str:
        """What it has printed so far, on both of its outputs."""
        return self._log.read_bytes()[self._from :].decode(errors="replace")

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def wait_for(self, text: str) -> None:
        """Wait until it has printed something."""
        eventually(lambda: text in self.printed() or not self.is_alive(), f"'{text}' at {self.machine.name}")
        assert text in self.printed(), self.printed()

    def wait(self, patience: float = PATIENCE) -> int:
        """Say that there are no more lines; wait until it has ended, and return its exit status."""
        self.end_lines()
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the console at {self.machine.name} goes on: {self.printed()}") from None

    def signal(self, number: int) -> None:
        """Send it a signal: SIGSTOP makes it silent, SIGCONT wakes it."""
        if self.is_alive():
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it without a word, as a power cut would."""
        if self.is_alive():
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        """End it, if it still runs."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended before it read its last line
                self.process.stdin.close()
        self.signal(signal.SIGCONT)
        self.kill()


def listens(port: int) -> bool:
    """Whether somebody on this host listens on a TCP port; nobody is connected to for that."""
    tables = [path for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if path.exists()]
    rows = [row.split() for table in tables for row in table.read_text().splitlines()[1:]]
    return any(row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port for row in rows)


class Consoles:
    """The consoles of a pair as scripts. The destination's listens; the source's has no line yet.

    ``port`` is where the destination listens, and ``uri`` what the source is told: by default the same.
    """

    def __init__(self, pair: Pair, *, told_port: int | None = None, options: Sequence[str] = ()) -> None:
        """``told_port``: where a ``Line`` takes connections."""
        self.port = free_port()
        self.uri = f"tcp:{HOST}:{told_port or self.port}"
        self._started: list[Script] = []
        self.pair = pair
        self.options = options
        self.destination = self.start_destination()
        self.source = self.start_source()

    def start_source(self, *lines: str) -> Script:
        """Start a console at the source, again if there was one."""
        return self._start(self.pair.source, *self.options, lines=lines)

    def start_destination(self, *lines: str) -> Script:
        """Start a console at the destination, again if there was one."""
        incoming = f"tcp:{HOST}:{self.port}"
        return self._start(self.pair.destination, *self.options, "-incoming", incoming, lines=lines)

    def _start(self, machine: Machine, *options: str, lines: Sequence[str]) -> Script:
        script = Script(machine, *options, lines=lines)
        self._started.append(script)
        return script

    def wait_listening(self) -> None:
        """Wait until the destination's console listens."""
        script = self.destination
        eventually(
            lambda: listens(self.port) or not script.is_alive(),
            "the destination's console listens",
            START_PATIENCE,
            pause=0.1,
        )
        assert script.is_alive(), script.printed()

    @property
    def line(self) -> str:
        """The announcement's line for this pair."""
        return f"migrate blk {'inc ' if self.pair.setup.inc else ''}{self.uri}"

    def __enter__(self) -> Consoles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for script in self._started:
            script.close()


def open_console(terminal: Terminal, machine: Machine, *options: str) -> None:
    """Start a console on a machine in a terminal, and wait for its prompt."""
    words = [sys.executable, "-m", "qmon", "-connect", f"unix:{machine.qmp_path}", *options]
    terminal.type(f"clear; {' '.join(words)}\r")
    terminal.wait_for(r"^\(qemu [^)]*\)")
