"""One qmon that gets QMP messages at random, and what must hold whatever they are."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.qmp_messages import Messages
from tests.support.images import KIB, MIB
from tests.support.processes import CHECKOUT
from tests.support.qmp_client import QmpClient

MEMORY_MAX = 200 * MIB
BATCH = 20
"""Messages of one client."""


class BrokenPromiseError(Exception):
    """The program did what it must never do."""


class Trial:
    """A qmon with two drives in a folder of its own."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self._path = folder / "qmp"
        self._process = process
        self._log = log
        self._details = folder / "details"
        self._other = QmpClient(self._path)
        self._schema = self._other.run("query-qmp-schema")

    def close(self) -> None:
        self._other.close()

    def batch(self, seed: int) -> int:
        """Send a batch in pieces of any size; return the number of answers. Raises BrokenPromiseError."""
        chance = random.Random(seed)
        messages = Messages(self._schema, chance)
        with QmpClient(self._path) as client:
            answers = 0
            for number in range(BATCH):
                data = messages.bytes()
                # A control character ends whatever was begun.
                data += b'\n\x01\n{"execute": "query-name", "id": "heard %d"}' % number
                while data:
                    size = chance.choice((1, 2, 7, 100, 1 << 16))
                    client.socket.sendall(data[:size])
                    data = data[size:]
                answers += self._heard(client, f"heard {number}")
        self._check()
        return answers

    def _heard(self, client: QmpClient, last: str) -> int:
        for count in range(1 << 20):
            try:
                text = client.lines.readline()
            except TimeoutError as error:
                raise BrokenPromiseError("no answer") from error
            if not text:
                raise BrokenPromiseError("the connection was closed")
            message = json.loads(text, parse_constant=_refuse)
            if message.get("id") == last:
                return count
            if "internal error" in str(message.get("error", "")):
                raise BrokenPromiseError(text.decode() + self._said())
        raise BrokenPromiseError("no end of answers")

    def _check(self) -> None:
        if self._process.poll() is not None:
            raise BrokenPromiseError(f"it ended with status {self._process.returncode}")
        if "status" not in self._other.run("query-status"):
            raise BrokenPromiseError("another client is not served")
        log = self._said()
        if "Traceback" in log or "internal error" in log:
            raise BrokenPromiseError(log)
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        if int(line.split()[1]) * KIB > MEMORY_MAX:
            raise BrokenPromiseError(f"it took {line}")

    def _said(self) -> str:
        """Return the ends of what it has printed and of its log."""
        return "".join(log.read_text(errors="replace")[-4000:] for log in (self._log, self._details))


def _refuse(name: str) -> float:
    raise BrokenPromiseError(f"{name} is not JSON")


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Trial]:
    """A fresh qmon; what it makes is made in ``folder``."""
    log = folder / "log"
    for name in ("d0.img", "d1.img"):
        with (folder / name).open("wb") as image:
            image.truncate(MIB)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "qmon", "-statedir", "state", "-monitor", "none", "-D", "details"),
                *("-drive", "file=d0.img,id=d0,format=raw,if=none", "-drive", "file=d1.img,id=d1,format=raw"),
                *("-qmp", "unix:qmp,server,nowait"),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        trial = Trial(folder, process, log)
        yield trial
        trial.close()
    finally:
        process.kill()
        process.wait()
