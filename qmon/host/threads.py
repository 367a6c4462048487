"""What a system may have none of for a moment: threads, and what else it takes to serve one more.

That there is no thread is an OSError here, as every other shortage is but that of memory.
"""

from __future__ import annotations

import errno
import logging
import mmap
import threading
from concurrent.futures import ThreadPoolExecutor

from qmon.errors import reason

BEGINNING = 4 << 20
"""Bytes that must be free for a thread to begin: one whose first line finds no memory ends without a word,
and Python's ``start`` waits for it for ever."""


def _check_memory() -> None:
    mmap.mmap(-1, BEGINNING, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


def _no_thread(error: RuntimeError) -> OSError:
    return OSError(errno.EAGAIN, f"{error}: memory, or the number of processes, is limited too low")


def start_thread(thread: threading.Thread) -> None:
    """Start a thread. Raises OSError when there is none to be had."""
    _check_memory()
    try:
        thread.start()
    except RuntimeError as error:
        raise _no_thread(error) from error


class Workers(ThreadPoolExecutor):
    """An executor whose threads are there from the start: work that was taken is done.

    The usual one starts them when they are needed; where that fails the work is refused, and done all the
    same when a thread has time.
    """

    def __init__(self, count: int, name: str) -> None:
        """Raises OSError when there are not so many threads to be had."""
        super().__init__(count, name)
        together = threading.Barrier(count)
        try:
            for _ in range(count):
                _check_memory()
                self.submit(together.wait)
        except (OSError, RuntimeError) as error:
            together.abort()
            self.shutdown(wait=False)
            if isinstance(error, OSError):
                raise
            raise _no_thread(error) from error


class Shortage:
    """Tells the log that clients can't be accepted: once for each time that this begins; for one thread."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        """``what`` can't be done, for a message to begin with."""
        self._log = log
        self._what = what
        self._told = ""

    def tell(self, error: OSError | MemoryError) -> None:
        """It could not be done."""
        why = reason(error)
        if why != self._told:
            self._log.warning("%s: %s; it is tried again", self._what, why)
        self._told = why

    def over(self) -> None:
        """It could be done."""
        self._told = ""
