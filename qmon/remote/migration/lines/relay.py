"""Joins two sockets: what arrives at one leaves by the other. The bytes stay in the kernel (splice(2))."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Callable

from qmon.errors import reason
from qmon.host.threads import start_thread

PIPE_BYTES = 1 << 20
"""The most that a pipe holds without privileges (/proc/sys/fs/pipe-max-size)."""


UNIX_BUFFER_BYTES = 4 << 20
"""The send buffer of a Unix socket, as far as the system allows it (/proc/sys/net/core/wmem_max)."""


class Relay:
    """Two threads, one for each direction. The sockets are the relay's own from now on.

    When one side sends its end, the other side is told (shutdown(2)), and the other direction goes on until
    its end. So nothing that was on its way is lost. A failure ends both directions.
    """

    def __init__(self, a: socket.socket, b: socket.socket, on_end: Callable[[str], None]) -> None:
        """``on_end`` is called once, on a thread, when all is over: with "", or with the failure's reason.

        Raises OSError if there is no thread or pipe to be had; the sockets are closed then.
        """
        self._ways = (_Way(a, b), _Way(b, a))
        self._on_end = on_end
        self._lock = threading.Lock()
        self._left = len(self._ways)
        self._why = ""
        self._threads = [
            threading.Thread(target=self._run, args=(way,), name="relay", daemon=True) for way in self._ways
        ]
        try:
            for way in self._ways:
                way.open()
            for thread in self._threads:
                start_thread(thread)
        except OSError:
            self._give_up()
            raise

    @property
    def sent(self) -> int:
        """Bytes from ``a`` to ``b`` so far."""
        return self._ways[0].count

    @property
    def received(self) -> int:
        """Bytes from ``b`` to ``a`` so far."""
        return self._ways[1].count

    def close(self) -> None:
        """Break the connections and wait until the threads have ended; idempotent. Not from ``on_end``."""
        self._break("it was closed")
        for thread in self._threads:
            thread.join()

    def _give_up(self) -> None:
        """Close all; at most the first thread has been started."""
        self._on_end = lambda why: None
        self._break("")
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for way in self._ways:
            way.close()

    def _run(self, way: _Way) -> None:
        try:
            way.run()
        except OSError as error:
            self._break(reason(error))
        with self._lock:
            self._left -= 1
            is_last = not self._left
        if is_last:
            for each in self._ways:
                each.close()
            self._on_end(self._why)

    def _break(self, why: str) -> None:
        with self._lock:
            if not self._left:
                return
            self._why = self._why or why
            for way in self._ways:
                way.shut()


class _Way:
    """One direction."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.count = 0
        self._source = source
        self._target = target
        self._pipe: tuple[int, ...] = ()

    def open(self) -> None:
        """Raises OSError."""
        self._source.setblocking(True)
        if self._target.family == socket.AF_UNIX:
            # It takes 208 KiB by default, and a mirror waits for the relay. TCP's fits itself to the line.
            self._target.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_BUFFER_BYTES)
        self._pipe = os.pipe()
        _widen(self._pipe[1])

    def close(self) -> None:
        """Close the source and the pipe; idempotent."""
        self._source.close()
        while self._pipe:
            os.close(self._pipe[0])
            self._pipe = self._pipe[1:]

    def run(self) -> None:
        """Pass bytes on until the source's end. Raises OSError."""
        reader, writer = self._pipe
        source, target = self._source.fileno(), self._target.fileno()
        while taken := os.splice(source, writer, PIPE_BYTES):
            while taken:
                given = os.splice(reader, target, taken)
                taken -= given
                self.count += given
        self._target.shutdown(socket.SHUT_WR)

    def shut(self) -> None:
        """Break the source's connection, which may have broken already."""
        try:
            self._source.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _widen(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:  # the user has too many wide pipes: a narrow one does, too
        return
