"""Starts threads, and reports shortages: no thread, descriptor or memory to serve one more client.

A thread that can't be started is an OSError here, like other shortages except that of memory.
"""

from __future__ import annotations

import errno
import logging
import mmap
import threading
from concurrent.futures import ThreadPoolExecutor

from qmon.errors import reason

BEGINNING = 4 << 20
"""Bytes of memory that must be free before a thread is started.

A thread whose first line finds no memory ends silently, and Python's ``start`` would wait for it for ever.
"""


def _check_memory() -> None:
    mmap.mmap(-1, BEGINNING, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


def no_thread(error: Exception) -> OSError | None:
    """Return an error of Python's as the shortage that it stands for, None if it is something else."""
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return OSError(errno.EAGAIN, f"{error}: the limit of memory or of processes is too low")
    return None


def start_thread(thread: threading.Thread) -> None:
    """Start a thread. Raises OSError if the system can't provide one."""
    _check_memory()
    try:
        thread.start()
    except RuntimeError as error:
        if (shortage := no_thread(error)) is None:
            raise
        raise shortage from error


class Workers(ThreadPoolExecutor):
    """An executor that starts all threads in its constructor, so that ``submit`` never fails for lack of one.

    The standard one starts threads when needed. If that fails, ``submit`` raises, but another thread may
    still do the work later.
    """

    def __init__(self, count: int, name: str) -> None:
        """Raises OSError if the system can't provide ``count`` threads."""
        super().__init__(count, name)
        together = threading.Barrier(count)
        try:
            for _ in range(count):
                _check_memory()
                self.submit(together.wait)
        except (OSError, RuntimeError) as error:
            together.abort()
            self.shutdown(wait=False)
            if (shortage := no_thread(error)) is None:
                raise
            raise shortage from error


class Shortage:
    """Logs that an action fails for a shortage, once until it succeeds again. For one thread."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """``what`` begins the message, such as "can't accept an NBD client"."""
        self._log = log
        self._what = what
        self._told = ""

    def tell(self, error: OSError | MemoryError) -> None:
        """Note that the action failed; log it if the reason is new."""
        why = reason(error)
        if why != self._told:
            self._log.warning("%s: %s; retrying", self._what, why)
        self._told = why

    def over(self) -> None:
        """Note that the action succeeded."""
        self._told = ""
