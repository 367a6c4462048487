"""How long a key that is typed takes to appear, with the completion of the whole command table open.

    python -m bench.keystroke

starts qmon on a pseudo-terminal, opens the menu of all commands, types names of commands key by key, and
prints the median and the 95th percentile of the times from a key's being written to its echo.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time

from bench import results
from bench.results import Column

ROWS, COLUMNS = 40, 100
WORDS = ("migrate_set_parameter", "block_set_io_throttle", "nbd_server_remove", "info", "snapshot_blkdev")
ROUNDS = 8
QUIET_SECONDS = 0.05
"""A person's keys are further apart: what the last one set off is done by then."""
PATIENCE_SECONDS = 20.0
ERASE_LINE, TAB = b"\x15", b"\t"

_SEQUENCE = re.compile(rb"\x1b(?:\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>78])")


class Console:
    """qmon on a pseudo-terminal."""

    def __init__(self, folder: str) -> None:
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": folder}
        command = [sys.executable, "-m", "qmon", "-statedir", folder]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
        os.close(theirs)
        self.wait_for(b"(qemu)")
        self.settle()

    def press(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def _read(self, seconds: float) -> bytes:
        """What comes within so long, "" when nothing does."""
        ready = select.select([self._terminal], [], [], max(0.0, seconds))[0]
        return os.read(self._terminal, 65536) if ready else b""

    def wait_for(self, text: bytes) -> None:
        """Wait until this is written, escape sequences aside. Raises TimeoutError."""
        seen = b""
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while text not in _SEQUENCE.sub(b"", seen):
            seen += self._read(deadline - time.perf_counter())
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{text!r} was not written, but {seen!r}")

    def settle(self) -> None:
        """Take what is written until nothing has come for a while."""
        while self._read(QUIET_SECONDS):
            pass

    def close(self) -> None:
        """End it as somebody at the terminal would."""
        self.press(ERASE_LINE + b"quit\r")
        self.process.wait(PATIENCE_SECONDS)
        os.close(self._terminal)


def measure(console: Console) -> list[float]:
    """Milliseconds from key to echo, for each key of each word."""
    times = []
    for word in WORDS * ROUNDS:
        console.press(ERASE_LINE)
        console.settle()
        console.press(TAB)
        console.wait_for(b"announce_self")
        console.settle()
        for letter in word.encode():
            key = bytes([letter])
            begin = time.perf_counter()
            console.press(key)
            console.wait_for(key)
            times.append((time.perf_counter() - begin) * 1000)
            console.settle()
    return times


def main() -> None:
    """Measure, and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        console = Console(folder)
        try:
            times = measure(console)
        finally:
            console.close()
    cuts = statistics.quantiles(times, n=100)
    print(
        f"a key's echo with the completion of all commands open: median {statistics.median(times):.1f} ms, "
        f"95th percentile {cuts[94]:.1f} ms, longest {max(times):.1f} ms ({len(times)} keys)"
    )
    titles = ("median, ms", "95th percentile, ms", "longest, ms")
    row = ("from a key to its echo", [statistics.median(times), cuts[94], max(times)])
    what = f"a terminal with the menu of all commands open; {len(times)} keys"
    results.keep("keystroke", what, [Column(title, "{:.1f}") for title in titles], [row])


if __name__ == "__main__":
    main()
