"""``-daemonize`` and ``-pidfile``: a process that goes to the background when it is ready."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
import sys

from qmon.errors import QmonError, reason
from qmon.host.standard_streams import put_null

_PID_BYTES_MAX = 32


class Launcher:
    """Forks in its constructor. The parent waits until the child says that it is ready or has failed."""

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
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends both processes without a message
        else:
            os.close(read_end)
            self._pipe = write_end

    def wait(self) -> int:
        """In the parent: return 0 when the child is ready, else print its error and return its status."""
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
        """In the child: leave the terminal, and let the parent return 0."""
        os.setsid()
        os.write(self._pipe, b"ready")
        os.close(self._pipe)
        put_null((0, 1, 2))

    def failed(self, text: str) -> None:
        """In the child: send an error line to the parent. After ``ready`` this has no effect."""
        try:
            os.write(self._pipe, text.encode())
        except OSError:
            return
        os.close(self._pipe)


class PidFileError(QmonError):
    """The pidfile can't be made or locked; the text is QEMU's where QEMU has one."""

    def __init__(self, what: str) -> None:
        super().__init__(f"cannot create PID file: {what}")


class PidFile:
    """A file with the process id, locked as QEMU locks it while the process lives.

    A file that an ended process left is reused. Raises PidFileError.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        try:
            self._descriptor = _open(path)
        except OSError as error:
            why = "it is a symbolic link" if error.errno == errno.ELOOP else reason(error)
            raise PidFileError(f"Could not create '{path}': {why}") from error

    def remove(self) -> None:
        """Remove the file, unless another process has replaced it."""
        with contextlib.suppress(OSError):  # a file that can't be removed is reused by the next process
            if _is_at(self._descriptor, self._path):
                os.unlink(self._path)
        os.close(self._descriptor)


def _open(path: str) -> int:
    """Open, lock and write the file; return its descriptor. Raises OSError or PidFileError."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            _lock(descriptor, path)
            if _is_at(descriptor, path):
                _write(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner has just removed it: try again


def _lock(descriptor: int, path: str) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise PidFileError(f"Cannot lock pid file: {reason(error)}: '{path}' is in use") from error


def _write(descriptor: int) -> None:
    held = os.read(descriptor, _PID_BYTES_MAX).strip()
    if held and not held.isdigit():
        raise OSError(errno.EEXIST, "it contains something other than a process id")
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
