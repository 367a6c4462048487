"""The consoles of a run: processes of their own, each on one QEMU's monitor."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.processes import CHECKOUT, QMON

END_SECONDS = 20.0
"""In which a console ends when nobody types any more."""

MARK = "QMON_TORTURE"
"""A variable of the environment by which a run's processes are known."""


class Console:
    """A console; what it prints is in a file."""

    def __init__(self, folder: Path, name: str, words: Sequence[str], temporary: Path) -> None:
        """``temporary`` is where it may make files that it removes."""
        self.name = name
        self.path = folder / f"{name}.out"
        environ = {**os.environ, MARK: str(folder), "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
        with self.path.open("wb") as out:
            self.process = subprocess.Popen(
                [*QMON, "-statedir", str(folder / f"{name}.state"), *words],
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environ,
            )
        self.is_frozen = False

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def text(self) -> str:
        """What it has printed so far."""
        return self.path.read_text(errors="replace")

    def wait_for(self, text: str, seconds: float = 20.0) -> bool:
        """Wait until it has printed something; False if it has ended, or does not."""
        deadline = time.monotonic() + seconds
        while text not in self.text():
            if not self.is_alive or time.monotonic() > deadline:
                return text in self.text()
            time.sleep(0.01)
        return True

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def signal(self, number: int) -> None:
        if self.is_alive:
            self.is_frozen = number == signal.SIGSTOP
            self.process.send_signal(number)

    def kill(self) -> None:
        if self.is_alive:
            self.process.kill()
        self.process.wait()

    def leave(self) -> bool:
        """Have it end as if nobody typed any more; return whether it has."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.kill()
            return False
        return True
