"""A child process that reads from or writes to this one: its pipes, the last line of its errors, its end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Sequence

from qmon.host.threads import start_thread
from qmon.notation.plain_text import one_line

TERM_SECONDS = 1.0
"""How long a child may take to end after SIGTERM; then it gets SIGKILL."""

LOOK_SECONDS = 0.01
"""How often a waiting thread looks whether the child has ended."""

MAX_SAID = 4096
"""Bytes of a child's last errors that are kept."""

MAX_SHOWN = 200
"""Characters of the last line of a child's errors that are shown."""


class Child:
    """A running command with a process group of its own, so that its end ends its own children, too.

    ``stdin`` and ``stdout`` are descriptors of pipes to and from it; the caller owns them. It inherits no
    other descriptor, and has no terminal, so that it can't ask a person. The constructor raises OSError.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            close_fds=True,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        with self._process.stdin as to, self._process.stdout as back, self._process.stderr as errors:
            self.stdin, self.stdout, self._errors = (os.dup(each.fileno()) for each in (to, back, errors))
        self._said = b""
        self._wake, self._waker = os.pipe()
        self._over = threading.Lock()
        self._status: int | None = None
        self._listener = threading.Thread(target=self._listen, name="child-errors", daemon=True)
        try:
            start_thread(self._listener)
        except BaseException:
            os.close(self.stdin)
            os.close(self.stdout)
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended; its status stays to be collected by ``stop``."""
        if self._status is not None:
            return True
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is not None

    def wait(self, seconds: float | None, stopped: threading.Event | None = None) -> bool:
        """Wait until it has ended; return whether it has. With ``stopped`` set the wait is over."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self.has_ended:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            if stopped is None:
                time.sleep(LOOK_SECONDS)
            elif stopped.wait(LOOK_SECONDS):
                return False
        return True

    def failure(self) -> str | None:
        """Return how it has failed, in one line; None if it has not ended, or with status 0."""
        if not self.has_ended:
            return None
        self._listener.join(TERM_SECONDS)  # its errors have been written, but perhaps not been read
        status = self._collect()
        if status == 0:
            return None
        how = f"has ended with status {status}"
        if status < 0:
            with contextlib.suppress(ValueError):  # a realtime signal has no name
                how = f"was ended by {signal.Signals(-status).name}"
        said = self.last_line()
        return f"the command {how}{f': {said}' if said else ''}"

    def last_line(self) -> str:
        """Return the last line of its errors, without what controls a terminal; "" without one."""
        lines = self._said.decode(errors="surrogateescape").replace("\r", "\n").split("\n")
        last = next((each.strip() for each in reversed(lines) if each.strip()), "")
        return one_line(last[:MAX_SHOWN])

    def stop(self, grace: float = 0.0) -> None:
        """End it and its process group, after ``grace`` seconds to end by itself. Blocks; idempotent."""
        with self._over:
            if self._wake < 0:
                return
            if not self.wait(grace):
                self._signal(signal.SIGTERM)
                self.wait(TERM_SECONDS)
            self._signal(signal.SIGKILL)  # before its status is collected: until then nobody else has its id
            self._collect()
            os.close(self._waker)
            if self._listener.ident is not None:
                self._listener.join()
            os.close(self._wake)
            os.close(self._errors)
            self._wake = -1

    def _signal(self, number: signal.Signals) -> None:
        if self._status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _collect(self) -> int:
        """Wait for the end; return the status, or the negative number of the signal that ended it."""
        if self._status is None:
            self._status = self._process.wait()
        return self._status

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._errors, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._errors not in ready:
                return
            data = os.read(self._errors, 1 << 16)
            if not data:
                return
            self._said = (self._said + data)[-MAX_SAID:]
