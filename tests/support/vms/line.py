"""A line between two consoles that can be cut, be slow or be far."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque

HOST = "127.0.0.1"
PIECE, QUEUED_MAX = 1 << 16, 16 << 20
TURN = 0.02
"""Seconds after which a thread looks at the latest whether the line is as before."""


class Line:
    """Passes connections to ``port`` on to another port of this host, in both directions, byte for byte.

    ``delay`` are seconds that each byte is on its way, ``rate`` bytes a second in each direction of a
    connection. All can be set while connections last.
    """

    def __init__(self, target_port: int, port: int, *, delay: float = 0.0, rate: float | None = None) -> None:
        self.target_port = target_port
        self.port = port
        self.delay = delay
        self.rate = rate
        self.is_cut = threading.Event()
        self.connections = 0
        """How many have been made so far."""
        self.passed = 0
        """Bytes that came through so far, of all connections and both directions; about, while they come."""
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Line:
        self.mend()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Reset every connection; new ones are refused."""
        self.is_cut.set()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def mend(self) -> None:
        """Take connections, for the first time or again."""
        self.is_cut.clear()
        listener = socket.create_server((HOST, self.port))
        listener.settimeout(TURN)
        self._start(threading.Thread(target=self._accept, args=(listener,)))

    def _start(self, thread: threading.Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while not self.is_cut.is_set():
                with contextlib.suppress(TimeoutError):
                    near, _ = listener.accept()
                    self._start(threading.Thread(target=self._carry, args=(near,)))

    def _carry(self, near: socket.socket) -> None:
        """Pass bytes both ways until both ends have ended, one is broken, or the line is cut."""
        with (
            near,
            contextlib.suppress(OSError),  # nobody listens, or an end has reset its connection
            socket.create_connection((HOST, self.target_port)) as far,
        ):
            self.connections += 1
            ways = (_Way(near, far), _Way(far, near))
            try:
                while not self.is_cut.is_set() and not all(way.is_over for way in ways):
                    self._turn(ways)
            finally:
                if not all(way.is_over for way in ways):
                    _reset_at_close(near, far)

    def _turn(self, ways: tuple[_Way, _Way]) -> None:
        """Wait until something can be passed on, not longer than a turn, and do it."""
        now = time.monotonic()
        waiting = TURN
        poll = select.poll()
        asked: dict[int, int] = {}
        for way in ways:
            if way.wants_to_read:
                asked[way.source.fileno()] = asked.get(way.source.fileno(), 0) | select.POLLIN
            if way.queue:
                if way.due <= now:
                    asked[way.sink.fileno()] = asked.get(way.sink.fileno(), 0) | select.POLLOUT
                else:
                    waiting = min(waiting, way.due - now)
        for descriptor, mask in asked.items():
            poll.register(descriptor, mask)
        ready = dict(poll.poll(waiting * 1000))
        for way in ways:
            if way.wants_to_read and ready.get(way.source.fileno(), 0) & (select.POLLIN | select.POLLHUP):
                way.read(self.delay)
            if way.queue and way.due <= now and ready.get(way.sink.fileno(), 0) & select.POLLOUT:
                self.passed += way.write(self.rate)


def _reset_at_close(*sockets: socket.socket) -> None:
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class _Way:
    """One direction of a connection: what has been read and is still on its way."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        source.setblocking(False)
        self.queue: deque[tuple[float, bytes]] = deque()
        """When a piece arrives, and the piece; b"" is the end."""
        self.is_over = False
        self._queued = 0
        self._has_ended = False
        self._free = 0.0

    @property
    def wants_to_read(self) -> bool:
        return not self._has_ended and self._queued < QUEUED_MAX

    @property
    def due(self) -> float:
        """When the next piece may be passed on."""
        return max(self.queue[0][0], self._free)

    def read(self, delay: float) -> None:
        data = self.source.recv(PIECE)
        self._has_ended = not data
        self._queued += len(data)
        self.queue.append((time.monotonic() + delay, data))

    def write(self, rate: float | None) -> int:
        """Pass on what can be passed on at once; return how many bytes that is."""
        when, data = self.queue.popleft()
        if not data:
            self.sink.shutdown(socket.SHUT_WR)
            self.is_over = True
            return 0
        most = len(data) if rate is None else max(512, int(rate * TURN))
        sent = self.sink.send(data[:most])
        if sent < len(data):
            self.queue.appendleft((when, data[sent:]))
        self._queued -= sent
        if rate is not None:
            self._free = max(self._free, time.monotonic() - TURN) + sent / rate
        return sent
