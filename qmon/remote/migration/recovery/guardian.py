"""Starts and ends the guardian (``guarding.py``), a process that outlives this console if it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from qmon.errors import QmonError, naming
from qmon.notation.plain_text import one_line
from qmon.remote.migration.recovery import guarding
from qmon.remote.remote import Remote

START_SECONDS = 10.0
END_SECONDS = 10.0


_CANNOT = "the guardian can't be started"


class Guardian:
    """Guards one migration, from ``start`` to ``stop``. Without ``stop`` it acts when this process ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._takes_oob = False

    async def launch(self, remote: Remote) -> None:
        """Start its process, if it can guard the connection. Raises QmonError."""
        sock = remote.duplicate()
        if sock is None:
            return
        self._takes_oob = remote.takes_out_of_band
        with naming(_CANNOT):
            await asyncio.to_thread(self._launch, sock, one_line(str(remote.address)))

    async def start(self, migration: str, descriptors: Sequence[str] = ()) -> None:
        """Have it guard a migration. It reads what to restore from the migration's record in the QEMU.

        ``descriptors`` are the names under which descriptors may be passed to the QEMU. Raises QmonError.
        """
        if self._process is None:
            raise QmonError("there is no connection that a guardian could keep")
        told = {"id": migration, "descriptors": list(descriptors), "oob": self._takes_oob}
        with naming(_CANNOT):
            await asyncio.to_thread(self._start, json.dumps(told).encode() + b"\n")

    def _launch(self, sock: socket.socket, address: str) -> None:
        """Raises OSError. Not asyncio's subprocess: that kills its child when this program fails."""
        with sock:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(guarding.__file__)), str(sock.fileno()), address],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[sock.fileno()],
                start_new_session=True,
                bufsize=0,
            )

    def _start(self, line: bytes) -> None:
        """Raises OSError."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            if not select.select([process.stdout], [], [], START_SECONDS)[0] or not process.stdout.readline():
                raise OSError(0, "it does not answer")
        except OSError:
            self._stop()
            raise

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    def disarm(self) -> None:
        """Tell it that it is needed no more. Does not wait; from now on it does nothing; idempotent."""
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):  # it has been killed
                self._process.stdin.write(guarding.DONE)
            self._process.stdin.close()

    async def stop(self) -> None:
        """Disarm it, and wait for its end; idempotent."""
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self.disarm()
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdout is not None
        process.stdout.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
