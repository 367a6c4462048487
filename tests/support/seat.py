"""A qmon at a terminal of its own, which can be taken away."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.processes import CHECKOUT, gone
from tests.support.terminal import Terminal
from tests.support.waiting import eventually


class Seat:
    """A terminal that can be taken away, and the qmon on it."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "tmux"
        self.terminal = Terminal(self._socket, 120, XDG_STATE_HOME=str(folder))
        self.log = folder / "qmon.log"
        self._pidfile = folder / "pid"
        self.pid = 0

    def start(self, *options: str, before: str = "", behind: str = "") -> None:
        words = [sys.executable, "-m", "qmon", "-D", str(self.log), "-pidfile", str(self._pidfile), *options]
        self.terminal.type(f"clear; cd {CHECKOUT}; {before} {shlex.join(words)} {behind}\r")
        eventually(lambda: self._pidfile.exists() and self._pidfile.read_text(), "it has started")
        self.pid = int(self._pidfile.read_text())

    def prompt(self) -> None:
        self.terminal.wait_for(r"^\(qemu\) $")

    def hang_up(self) -> None:
        self.terminal.close()

    @property
    def has_ended_well(self) -> bool:
        return gone(self.pid) and not self._pidfile.exists()

    def wait_log(self, text: str) -> None:
        eventually(lambda: self.log.exists() and text in self.log.read_text(), f"'{text}' in the log")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End it by SIGTERM, which it obeys."""
        os.kill(self.pid, signal.SIGTERM)
        eventually(lambda: self.has_ended_well, "it ends")

    def close(self) -> None:
        """Leave nothing behind, whatever the test has done."""
        if self.pid and not gone(self.pid):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(self.pid, signal.SIGKILL)
        subprocess.run(["tmux", "-S", str(self._socket), "kill-server"], capture_output=True, check=False)
