"""``-daemonize`` and ``-pidfile``: a process that goes to the background once it listens."""

from __future__ import annotations

import os
import sys
from pathlib import Path


class Launcher:
    """Forks at once. The parent waits for the child to say that it is ready, or what went wrong."""

    def __init__(self) -> None:
        read_end, write_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.is_parent = os.fork() != 0
        if self.is_parent:
            os.close(write_end)
            self._pipe = read_end
        else:
            os.close(read_end)
            self._pipe = write_end
            os.setsid()

    def wait(self) -> int:
        """In the parent: return 0 when the child is ready; else print its error and return 1."""
        with open(self._pipe, encoding="utf-8", errors="replace") as pipe:
            said = pipe.read()
        if said == "ready":
            return 0
        print(said or "qmon: the process ended before it was ready", file=sys.stderr)
        return 1

    def ready(self) -> None:
        """In the child: let the parent return, and let go of the terminal."""
        os.write(self._pipe, b"ready")
        os.close(self._pipe)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)

    def failed(self, text: str) -> None:
        """In the child: give the parent its error line. After ``ready`` nobody is there to hear it."""
        try:
            os.write(self._pipe, text.encode())
        except OSError:
            return
        os.close(self._pipe)


class PidFile:
    """A file that holds the process id while the process lives. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        self._path.write_text(f"{os.getpid()}\n")

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
