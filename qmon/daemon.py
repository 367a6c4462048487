"""``-daemonize`` and ``-pidfile``: a process that goes to the background once it listens."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


class Launcher:
    """Forks at once. The parent waits for the child to say that it is ready, or what went wrong."""

    def __init__(self) -> None:
        read_end, write_end = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._child = os.fork()
        self.is_parent = self._child != 0
        if self.is_parent:
            os.close(write_end)
            self._pipe = read_end
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # it ends both, and has nothing to say
        else:
            os.close(read_end)
            self._pipe = write_end

    def wait(self) -> int:
        """In the parent: return 0 when the child is ready; else print its error, and return its status."""
        with open(self._pipe, encoding="utf-8", errors="replace") as pipe:
            said = pipe.read()
        if said == "ready":
            return 0
        if said:
            print(said, file=sys.stderr)
            return 1
        status = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        if status < 0:
            print("qmon: the process ended before it was ready", file=sys.stderr)
            return 1
        return status

    def ready(self) -> None:
        """In the child: let the parent return, and let go of the terminal, which until now could end both."""
        os.setsid()
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
