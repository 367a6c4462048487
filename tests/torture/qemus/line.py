"""A TCP proxy between the two consoles: tells of places in what passes, and fails in many ways."""

from __future__ import annotations

import contextlib
import enum
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.ports import free_port

PIECE = 1 << 16
TICK = 0.02
"""Seconds after which a thread that waits looks around."""

RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Way(enum.Enum):
    THERE = "there"
    """From the source to the destination."""
    BACK = "back"


class Kind(enum.Enum):
    """What a connection is for, by its first line."""

    CONTROL = "control"
    DISK = "disk"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class AtByte:
    """Before a byte of the first connection of a kind."""

    kind: Kind
    way: Way
    offset: int

    def __str__(self) -> str:
        return f"byte {self.offset} of {self.kind.value} {self.way.value}"


@dataclass(frozen=True, slots=True)
class AtMessage:
    """Before or behind a request of the source's console, or its answer."""

    request: str
    is_answer: bool
    is_behind: bool

    def __str__(self) -> str:
        what = f"the answer to '{self.request}'" if self.is_answer else f"'{self.request}'"
        return f"{'behind' if self.is_behind else 'before'} {what}"


Place = AtByte | AtMessage
Reached = Callable[[], None]


@dataclass(eq=False)
class _Connection:
    """One connection; ``names`` are the source's requests by their ids."""

    sockets: dict[Way, tuple[socket.socket, socket.socket]]
    """Where a way's bytes come from, and where they go."""
    kind: Kind | None = None
    is_cut: bool = False
    names: dict[int, str] = field(default_factory=dict)
    passed: dict[Way, int] = field(default_factory=lambda: {Way.THERE: 0, Way.BACK: 0})
    ended: set[Way] = field(default_factory=set)
    """Ways that carry nothing more."""
    open_pumps: int = 2

    def cut(self, *, reset: bool) -> None:
        if reset:
            for sock in self.sockets[Way.THERE]:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        self.is_cut = True


class Line:
    """Listens on ``port`` and passes all on to another port of this host, until ``close``.

    A place's callback is called once, in the thread that passes the bytes on; these wait for its return.
    """

    def __init__(self, to: int, rate: int | None = None) -> None:
        """``rate``: how many bytes a second each way of a connection takes."""
        self.port = free_port()
        self.connected = threading.Event()
        """Set when the first connection has come."""
        self.rate = rate
        self.is_down = False
        """Whether connections are refused."""
        self._to = to
        self._places: dict[Place, Reached] = {}
        self._changed = threading.Condition()
        self._stalled: set[tuple[Kind | None, Way]] = set()
        self._swallowed: set[tuple[Kind | None, Way]] = set()
        self._connections: list[_Connection] = []
        self._seen: set[Kind] = set()
        self._is_closed = False
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.settimeout(TICK)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def at(self, place: Place, reached: Reached) -> None:
        self._places[place] = reached

    # Faults

    def stall(self, kinds: frozenset[Kind], ways: frozenset[Way]) -> None:
        """Nothing is taken any more from whoever sends."""
        with self._changed:
            self._stalled |= {(kind, way) for kind in kinds for way in ways}
            if kinds == frozenset(Kind):
                self._stalled |= {(None, way) for way in ways}

    def swallow(self, kinds: frozenset[Kind], ways: frozenset[Way]) -> None:
        """All is taken, and nothing arrives."""
        self._swallowed |= {(kind, way) for kind in kinds for way in ways}

    def cut(self, kinds: frozenset[Kind], *, reset: bool) -> None:
        """End the connections; the line itself works on unless ``is_down`` is set."""
        for each in list(self._connections):
            if each.kind in kinds or each.kind is None:
                each.cut(reset=reset)

    def half_close(self, kinds: frozenset[Kind], ways: frozenset[Way]) -> None:
        """One way ends, and the other goes on."""
        for each in list(self._connections):
            if each.kind in kinds:
                each.ended |= ways
                for way in ways:
                    with contextlib.suppress(OSError):
                        each.sockets[way][1].shutdown(socket.SHUT_WR)

    def mend(self) -> None:
        """All works again; what was thrown away is lost, and its connections are cut."""
        lost = {kind for kind, _ in self._swallowed if kind}
        if lost:
            self.cut(frozenset(lost), reset=True)
        with self._changed:
            self._stalled.clear()
            self._swallowed.clear()
            self.is_down = False
            self.rate = None
            self._changed.notify_all()

    def close(self) -> None:
        self._is_closed = True
        self.cut(frozenset(Kind), reset=True)
        self.mend()
        for each in self._threads:
            each.join()
        self._listener.close()

    # Passing on

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connected.set()
            try:
                if self.is_down:
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
                near.close()
                continue
            self._pass(near, far)

    def _pass(self, near: socket.socket, far: socket.socket) -> None:
        for sock in (near, far):
            sock.settimeout(TICK)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection({Way.THERE: (near, far), Way.BACK: (far, near)})
        self._connections.append(connection)
        for way in Way:
            thread = threading.Thread(target=self._pump, args=(connection, way), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pump(self, connection: _Connection, way: Way) -> None:
        try:
            self._pass_bytes(connection, way)
        except OSError:
            connection.is_cut = True
        with self._changed:
            connection.open_pumps -= 1
            if connection.open_pumps == 0:
                self._connections.remove(connection)
                for sock in connection.sockets[way]:
                    sock.close()

    def _pass_bytes(self, connection: _Connection, way: Way) -> None:
        source, target = connection.sockets[way]
        held = b""  # of a line that is not whole yet
        while not connection.is_cut:
            self._wait(connection, way)
            try:
                data = source.recv(PIECE if self.rate is None else 4096)
            except TimeoutError:
                continue
            if not data:
                self._send(connection, way, held)
                with contextlib.suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
                return
            if self.rate:
                time.sleep(len(data) / self.rate)
            data, held = held + data, b""
            if connection.kind in (None, Kind.CONTROL):
                data, held = self._lines(connection, way, data)
            self._send(connection, way, data)

    def _wait(self, connection: _Connection, way: Way) -> None:
        with self._changed:
            while (connection.kind, way) in self._stalled and not connection.is_cut:
                self._changed.wait(TICK)

    def _lines(self, connection: _Connection, way: Way, data: bytes) -> tuple[bytes, bytes]:
        """Pass whole lines on; return what is to be passed on without a look, and what is not whole."""
        while (end := data.find(b"\n") + 1) and connection.kind in (None, Kind.CONTROL):
            line, data = data[:end], data[end:]
            self._line(connection, way, line)
        return (b"", data) if connection.kind in (None, Kind.CONTROL) else (data, b"")

    def _line(self, connection: _Connection, way: Way, line: bytes) -> None:
        message = json.loads(line)
        if connection.kind is None and "connection" in message:
            kind = Kind(message["connection"])
            connection.kind = kind
            if kind in self._seen:
                connection.passed = dict.fromkeys(Way, 1 << 62)  # bytes are counted in the first one
            self._seen.add(kind)
        name, is_answer = self._name(connection, way, message)
        self._reach(AtMessage(name, is_answer, is_behind=False))
        self._send(connection, way, line)
        self._reach(AtMessage(name, is_answer, is_behind=True))

    @staticmethod
    def _name(connection: _Connection, way: Way, message: dict[str, object]) -> tuple[str, bool]:
        number = message.get("id")
        if way is Way.THERE and isinstance(number, int) and "execute" in message:
            connection.names[number] = str(message["execute"])
            return connection.names[number], False
        if way is Way.BACK and isinstance(number, int):
            return connection.names.get(number, ""), True
        return "", False

    def _send(self, connection: _Connection, way: Way, data: bytes) -> None:
        """Send, and stop at each place in it."""
        first = connection.passed[way]
        inside = [
            place
            for place in self._places
            if isinstance(place, AtByte)
            and (place.kind, place.way) == (connection.kind, way)
            and first <= place.offset < first + len(data)
        ]
        connection.passed[way] = first + len(data)
        for place in sorted(inside, key=lambda place: place.offset):
            cut = place.offset - first
            self._send_all(connection, way, data[:cut])
            data, first = data[cut:], place.offset
            self._reach(place)
        self._send_all(connection, way, data)

    def _reach(self, place: Place) -> None:
        if reached := self._places.pop(place, None):
            reached()

    def _send_all(self, connection: _Connection, way: Way, data: bytes) -> None:
        target = connection.sockets[way][1]
        while data and not connection.is_cut:
            self._wait(connection, way)
            if (connection.kind, way) in self._swallowed or way in connection.ended:
                return
            with contextlib.suppress(TimeoutError):
                data = data[target.send(data) :]
