"""A connection of one or two descriptors: pipes, a file, a child process. It has the calls of a socket."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import threading
from collections.abc import Iterable, Sequence

from qmon.host.child import Child
from qmon.host.pipe_holders import is_held

PIPE_SIZE = 1 << 20
"""Bytes that a pipe holds, if the system allows it (fcntl(2), F_SETPIPE_SZ): fewer switches of processes."""

MOST_BUFFERS = 1024
"""IOV_MAX of Linux."""

GRACE_SECONDS = 0.5
"""How long a child may go on after the end of its input, before it is ended."""


class PipeLine:
    """Owns its descriptors, and the child process at their other ends. ``None`` is no such direction.

    One thread may read and one may write; any thread may call ``shutdown``, which wakes both.
    """

    def __init__(self, reading: int | None, writing: int | None, child: Child | None = None) -> None:
        self.child = child
        self._reading, self._writing = reading, writing
        self._send_ms: float | None = None
        self._stopped = threading.Event()
        self._wake, self._waker = os.pipe()
        self.is_file = writing is not None and stat.S_ISREG(os.fstat(writing).st_mode)
        """Whether what is written goes to a regular file."""
        for each in {reading, writing} - {None}:
            assert each is not None
            os.set_blocking(each, False)
            _enlarge(each)

    @classmethod
    def of_command(cls, argv: Sequence[str]) -> PipeLine:
        """Run a command: its standard input and output are the other end. Raises OSError."""
        child = Child(argv)
        return cls(child.stdout, child.stdin, child)

    def may_answer(self) -> bool:
        """Whether a process may still write to what is read here; True if it is not known."""
        if self.child is None or self._reading is None:
            return self._reading is not None
        return is_held(self.child.pid, self._reading)

    def fileno(self) -> int:
        """Return the descriptor that is read, -1 without one."""
        return -1 if self._reading is None else self._reading

    def limit_sending(self, seconds: float) -> None:
        """Let a send fail with EAGAIN when the other end accepts nothing for so long."""
        self._send_ms = seconds * 1000

    def wait_readable(self, seconds: float | None) -> bool:
        """Wait until there is something to read, the end included; return whether there is."""
        return self._wait(self._reading, select.POLLIN, None if seconds is None else seconds * 1000)

    def recv_into(self, buffer: memoryview) -> int:
        """Wait for bytes; return how many were received, 0 at the end. Raises OSError."""
        while (count := self.recv_now(buffer)) is None:
            self.wait_readable(None)
        return count

    def recv_now(self, buffer: memoryview) -> int | None:
        """Return how many bytes were received, 0 at the end, None if there are none yet. Raises OSError."""
        if self._stopped.is_set():
            return 0
        if self._reading is None:
            return None
        try:
            return os.readv(self._reading, [buffer])
        except BlockingIOError:
            return None

    def sendmsg(self, buffers: Iterable[bytes | memoryview]) -> int:
        """Send bytes of the buffers, at least one; return how many. Raises OSError."""
        pieces = list(buffers)[:MOST_BUFFERS]
        while True:
            if self._stopped.is_set() or self._writing is None:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            try:
                return os.writev(self._writing, pieces)
            except BlockingIOError:
                if not self._wait(self._writing, select.POLLOUT, self._send_ms):
                    raise

    def sendall(self, data: bytes) -> None:
        """Send all bytes. Raises OSError."""
        left = memoryview(data)
        while left:
            left = left[self.sendmsg([left]) :]

    def end_sending(self) -> None:
        """Say that nothing follows. On return a file is on stable storage. Raises OSError."""
        if self._writing is None:
            return
        if self.is_file:
            os.fsync(self._writing)
        if self._writing != self._reading:
            writing, self._writing = self._writing, None
            os.close(writing)

    def wait_ended(self, seconds: float | None = None) -> bool:
        """Wait until the command has ended; return whether it has, True without one."""
        return self.child is None or self.child.wait(seconds, self._stopped)

    def failure(self, seconds: float = 0.0) -> str | None:
        """Return how the command has failed, in one line, if it ends within so long; None if it has not."""
        if self.child is None:
            return None
        self.child.wait(seconds, self._stopped)
        return self.child.failure()

    def shutdown(self, how: int) -> None:
        """Wake the threads that wait: all calls end from now on, as with a disconnected socket."""
        if not self._stopped.is_set():
            self._stopped.set()
            os.close(self._waker)

    def close(self) -> None:
        """Close all, and end the command. Blocks for a moment; idempotent."""
        self.shutdown(0)
        if self._wake < 0:
            return
        for each in {self._reading, self._writing} - {None}:
            assert each is not None
            os.close(each)
        self._reading = self._writing = None
        if self.child is not None:
            self.child.stop(GRACE_SECONDS)
        os.close(self._wake)
        self._wake = -1

    def _wait(self, descriptor: int | None, events: int, limit_ms: float | None) -> bool:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if descriptor is not None:
            poll.register(descriptor, events)
        return bool(poll.poll(limit_ms))


def _enlarge(descriptor: int) -> None:
    """Make a pipe as large as allowed; leave everything else as it is."""
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        with contextlib.suppress(OSError):  # the system's limit: the pipe stays as it is
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
