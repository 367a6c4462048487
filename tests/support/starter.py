"""Starts qmon processes out of one that has its modules, which takes a fraction of a new one's time.

A start takes 0.36 s of CPU, nearly all of it imports, and the tests start some thousand. So one process
imports what every qmon imports, and forks for each that a test wants: a process of its own, with the
arguments, the environment, the folder and the streams of a new one, which runs the program's entry point.

``python -m tests.support.starter FD`` is that process; it ends with the socket ``FD``.

``python -m tests.support.starter --patience JSON ARGUMENT...`` is one qmon that is not forked. Its migrations
have other time limits than a user's: a test shortens one that it would have to sit out.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from qmon.hmp.commands import load
from qmon.hmp.tables.table import default_tables
from qmon.migration.patience import PATIENCE, Patience

MODULES = ("program.cli", "program.options", "program.run", "program.connected", "machine.embedded")
MESSAGE = 1 << 20
"""The longest message between the two, in bytes."""


class Forked:
    """A qmon process that was forked for a test; used as a ``subprocess.Popen`` is."""

    def __init__(self, starter: Starter, pid: int, stdin: BinaryIO | None = None) -> None:
        self.pid = pid
        self.stdin = stdin
        """What writes to it, where it was started with a pipe."""
        self.returncode: int | None = None
        self._starter = starter
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Its exit status if it has ended, negative for a signal."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended. Raises ``subprocess.TimeoutExpired``."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"qmon {self.pid}", timeout or 0)
        return status

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            waiting = select.poll()
            waiting.register(self._descriptor, select.POLLIN)
            if waiting.poll(None if timeout is None else 1000 * timeout):
                self.returncode = self._starter.status(self.pid)
                os.close(self._descriptor)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Starter:
    """The test's end of a process that forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, "-m", "tests.support.starter", str(number)]
            self._process = subprocess.Popen(
                command, cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, pass_fds=[number]
            )

    def start(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        streams: Sequence[int],
        environment: Mapping[str, str] = os.environ,
        patience: Patience = PATIENCE,
    ) -> Forked:
        """Start ``qmon ARGUMENTS``.

        ``streams`` are its standard input, output and error output; the first may be ``subprocess.PIPE``.
        """
        wanted = {
            "arguments": list(arguments),
            "cwd": str(cwd),
            "environment": dict(environment),
            "patience": dataclasses.asdict(patience),
        }
        if streams[0] != subprocess.PIPE:
            return Forked(self, self._ask(wanted, streams))
        reader, writer = os.pipe()
        try:
            return Forked(self, self._ask(wanted, [reader, *streams[1:]]), os.fdopen(writer, "wb"))
        finally:
            os.close(reader)

    def status(self, pid: int) -> int:
        """The exit status of a process that has ended, negative for a signal."""
        return self._ask({"ended": pid})

    def _ask(self, message: Any, descriptors: Sequence[int] = ()) -> int:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(message).encode("utf-8", "surrogatepass")], descriptors)
            answer = self._socket.recv(MESSAGE)
        assert answer, "the process that starts others has ended"
        return int(answer)


@cache
def starter() -> Starter:
    """The one of this process; it ends with it."""
    return Starter()


def with_patience(patience: Patience, words: Sequence[str]) -> list[str]:
    """The command of a qmon that is not forked, and whose migrations have these time limits."""
    given = json.dumps(dataclasses.asdict(patience))
    return [sys.executable, "-m", "tests.support.starter", "--patience", given, *words]


def serve(sock: socket.socket) -> tuple[list[str], Patience] | None:
    """Fork for each message; return its arguments and time limits in the forked process, None at the end."""
    for name in MODULES:
        importlib.import_module(f"qmon.{name}")
    load()
    default_tables()
    gc.collect()
    gc.freeze()
    while True:
        data, descriptors, _, _ = socket.recv_fds(sock, MESSAGE, 3)
        if not data:
            return None
        message = json.loads(data.decode("utf-8", "surrogatepass"))
        if "ended" in message:
            _, status = os.waitpid(message["ended"], 0)
            sock.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if not pid:
            sock.close()
            become(message, descriptors)
            return list(message["arguments"]), Patience(**message["patience"])
        for descriptor in descriptors:
            os.close(descriptor)
        sock.send(str(pid).encode())


def become(message: Any, streams: Sequence[int]) -> None:
    """Give a forked process the streams, the folder and the environment of a new one."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(message["environment"])
    os.chdir(message["cwd"])


def main() -> int:
    if sys.argv[1] == "--patience":
        return run(sys.argv[3:], Patience(**json.loads(sys.argv[2])))
    forked = serve(socket.socket(fileno=int(sys.argv[1])))
    return 0 if forked is None else run(*forked)


def run(arguments: Sequence[str], patience: Patience) -> int:
    """Be a qmon with these arguments; return its exit status."""
    sys.argv = ["qmon", *arguments]
    from qmon.program.cli import main as run_qmon

    if patience != PATIENCE:
        running: Any = importlib.import_module("qmon.program.run")
        running.EmbeddedMachine = functools.partial(running.EmbeddedMachine, patience=patience)
    return run_qmon()


if __name__ == "__main__":
    sys.exit(main())
