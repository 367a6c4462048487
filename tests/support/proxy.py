"""A TCP proxy for tests that breaks a connection at a byte: cuts, stalls, delays, truncates, flips a bit.

A place is a position in one of the two directions, from the start of the connection or from a landmark of
the migration stream, so that the few bytes that matter most can be met without knowing how long a stream is.
"""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qmon.migration.wire.answers import Type
from qmon.migration.wire.stream import (
    COMMAND_FORWARD,
    COMMAND_GO,
    COMMAND_HEARD,
    FINISH,
    Kind,
    Mark,
    section_end,
    section_footer,
)
from tests.support.ports import free_port

PIECE = 1 << 16
PAUSE = 0.01
"""Seconds that a delayed connection waits before each piece."""

SLOW_RATE, SLOW_PIECE = 4096, 512
"""Bytes a second, and how many are passed on at once, where a line has become slow."""

ACCEPT_INTERVAL = 0.05


class Way(enum.Enum):
    """A direction."""

    STREAM = "stream"
    """From source to destination."""
    ANSWERS = "answers"
    """From destination to source."""


LANDMARKS: dict[str, tuple[Way, bytes]] = {
    "FLUSH": (Way.STREAM, struct.pack(">BBHI", Kind.FLUSH, 0, 0, 0)),
    "last part": (Way.STREAM, section_footer() + section_end()),
    "FINISH": (Way.STREAM, struct.pack(">BBHI", Kind.FINISH, 0, 0, FINISH.size)),
    "GO": (Way.STREAM, struct.pack(">BHH", Mark.COMMAND, COMMAND_GO, 32)),
    "HEARD": (Way.STREAM, struct.pack(">BHH", Mark.COMMAND, COMMAND_HEARD, 32)),
    "FORWARD": (Way.STREAM, struct.pack(">BHH", Mark.COMMAND, COMMAND_FORWARD, 32)),
    "AGREED": (Way.ANSWERS, struct.pack(">HH", Type.AGREED, 8)),
    "FLUSHED": (Way.ANSWERS, struct.pack(">HH", Type.FLUSHED, 16)),
    "PREPARED": (Way.ANSWERS, struct.pack(">HH", Type.PREPARED, 24)),
    "RUNNING": (Way.ANSWERS, struct.pack(">HH", Type.RUNNING, 8)),
    "TAKES REQUESTS": (Way.ANSWERS, struct.pack(">HHB", Type.RUNNING, 9, 1)),
}
"""Bytes that a stream of random contents holds in one place only, and the direction in which they travel."""


@dataclass(frozen=True, slots=True)
class Place:
    """``offset`` bytes behind the start of the connection, or of a landmark."""

    way: Way
    offset: int
    landmark: str = ""

    def __str__(self) -> str:
        return f"{self.way.value}:{self.landmark or 'start'}+{self.offset}"


class Fault(enum.Enum):
    """What happens at a place. What comes before it is delivered."""

    CUT = "cut"
    """Both connections end, orderly as TCP sees it."""
    RESET = "reset"
    """Both connections are reset."""
    STALL = "stall"
    """Nothing goes this way for a while; then it goes on."""
    HANG = "hang"
    """Nothing goes this way for a while; then the connection is cut."""
    DELAY = "delay"
    """For a while each piece waits before it goes on."""
    TRUNCATE = "truncate"
    """What comes behind it is thrown away; after a while the connection is cut."""
    HALF_CLOSE = "half-close"
    """This way ends here, the other stays open for a while."""
    FLIP = "flip"
    """One bit of the byte changes."""
    SLOW = "slow"
    """For a while this way takes SLOW_RATE bytes a second."""
    SIGNAL = "signal"
    """The test is told, and the bytes wait until it has done what it wants."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault at one place; ``seconds`` is the while it speaks of, ``bit`` the one that flips."""

    place: Place
    fault: Fault
    seconds: float = 0.5
    bit: int = 0

    def __str__(self) -> str:
        return f"{self.fault.value} at {self.place}"


class Finder:
    """Finds a place in bytes that come in pieces, once."""

    def __init__(self, place: Place) -> None:
        self._pattern = LANDMARKS[place.landmark][1] if place.landmark else b""
        self._offset = place.offset
        self._target = None if place.landmark else place.offset
        self._total = 0
        self._tail = b""
        self._found = False

    def feed(self, data: bytes) -> int | None:
        """The place as an index of ``data``; None when it lies elsewhere."""
        before, self._total = self._total, self._total + len(data)
        if self._target is None:
            whole = self._tail + data
            index = whole.find(self._pattern)
            self._tail = whole[len(whole) - len(self._pattern) + 1 :]
            if index >= 0:
                self._target = self._total - len(whole) + index + self._offset
        if self._found or self._target is None or self._target >= self._total:
            return None
        self._found = True
        return max(0, self._target - before)  # a landmark that came in two pieces may lie behind us


@dataclass
class Trace:
    """What happened, with the seconds since it was made. Thread-safe."""

    lines: list[str] = field(default_factory=list)
    _begun: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        self.lines.append(f"{time.monotonic() - self._begun:8.4f} {text}")


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(8)
    return listener


class Proxy:
    """Carries connections to 127.0.0.1:``target``; each has its rule by its number, the later ones none.

    After a rule has acted, connections are refused for ``refuse`` seconds, or until ``end_refusal``.
    ``on_signal`` is called on a thread of the connection. Leave it as a context: all its threads have ended
    then.
    """

    def __init__(
        self,
        target: int,
        rules: Sequence[Rule] = (),
        *,
        refuse: float = 0.0,
        on_signal: Callable[[], None] = lambda: None,
        trace: Trace | None = None,
    ) -> None:
        self.port = free_port()
        self._target = target
        self._rules = list(rules)
        self._refuse = refuse
        self._refuse_until = 0.0
        self._on_signal = on_signal
        self._trace = trace or Trace()
        self._stop = threading.Event()
        self._carrying: list[Connection] = []
        self.connections = 0
        """How many have been carried."""
        self.acted: list[Rule] = []
        """The rules whose place was reached."""
        self._listener: socket.socket | None = _listen(self.port)
        self._thread = threading.Thread(target=self._accept, name="proxy")
        self._thread.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.cut()
        for connection in self._carrying:
            connection.join()
        if self._listener is not None:
            self._listener.close()

    @property
    def refuses(self) -> bool:
        """Whether connections are refused now."""
        return self._listener is None

    def end_refusal(self) -> None:
        """Take connections again soon."""
        self._refuse_until = 0.0

    def cut(self) -> None:
        """End all connections."""
        for connection in self._carrying:
            connection.cut()

    def _accept(self) -> None:
        while not self._stop.is_set():
            if time.monotonic() < self._refuse_until:
                if self._listener is not None:
                    self._listener.close()
                    self._listener = None
                self._stop.wait(ACCEPT_INTERVAL)
                continue
            if self._listener is None:
                self._listener = _listen(self.port)
                self._trace.note("proxy: takes connections again")
            if not select.select([self._listener], [], [], ACCEPT_INTERVAL)[0]:
                continue
            source, _ = self._listener.accept()
            target = socket.socket()
            try:
                target.connect(("127.0.0.1", self._target))
            except OSError as error:
                self._trace.note(f"proxy: no connection to the destination: {error}")
                target.close()
                source.close()
                continue
            rule = self._rules[self.connections] if self.connections < len(self._rules) else None
            self.connections += 1
            self._trace.note(f"proxy: connection {self.connections}, rule: {rule}")
            self._carrying.append(Connection(source, target, rule, self._note_acted, self._on_signal))

    def _note_acted(self, rule: Rule, position: int) -> None:
        self.acted.append(rule)
        self._trace.note(f"proxy: {rule}, byte {position}")
        if self._refuse:
            self._refuse_until = time.monotonic() + self._refuse


class Connection:
    """One connection through the proxy, with a thread for each way."""

    def __init__(
        self,
        source: socket.socket,
        target: socket.socket,
        rule: Rule | None,
        on_act: Callable[[Rule, int], None],
        on_signal: Callable[[], None],
    ) -> None:
        self._ends = (source, target)
        self._rule = rule
        self._on_act = on_act
        self._on_signal = on_signal
        self._ended = threading.Event()
        self._reset = False
        self._thread = threading.Thread(target=self._carry, name="proxy-connection")
        self._thread.start()

    def cut(self) -> None:
        """End both connections; idempotent."""
        self._ended.set()
        for end in self._ends:
            with contextlib.suppress(OSError):  # ended before
                end.shutdown(socket.SHUT_RD if self._reset else socket.SHUT_RDWR)

    def join(self) -> None:
        self._thread.join()

    def _carry(self) -> None:
        source, target = self._ends
        ways = [
            threading.Thread(target=self._pump, args=(source, target, Way.STREAM)),
            threading.Thread(target=self._pump, args=(target, source, Way.ANSWERS)),
        ]
        for way in ways:
            way.start()
        for way in ways:
            way.join()
        self._ended.set()
        for end in self._ends:
            if self._reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()

    def _pump(self, one: socket.socket, other: socket.socket, way: Way) -> None:
        rule = self._rule if self._rule is not None and self._rule.place.way is way else None
        finder = None if rule is None else Finder(rule.place)
        total = 0
        delayed_until = slow_until = 0.0
        dropping = False
        try:
            while data := one.recv(PIECE):
                at = finder.feed(data) if finder is not None and not dropping else None
                if at is not None:
                    assert rule is not None
                    other.sendall(data[:at])
                    self._on_act(rule, total + at)
                    data = self._act(rule, data[at:], other)
                    dropping = rule.fault in (Fault.TRUNCATE, Fault.HALF_CLOSE)
                    if rule.fault is Fault.DELAY:
                        delayed_until = time.monotonic() + rule.seconds
                    if rule.fault is Fault.SLOW:
                        slow_until = time.monotonic() + rule.seconds
                    total += at
                total += len(data)
                if dropping:
                    continue
                if time.monotonic() < delayed_until:
                    self._ended.wait(PAUSE)
                while data and time.monotonic() < slow_until and not self._ended.is_set():
                    other.sendall(data[:SLOW_PIECE])
                    data = data[SLOW_PIECE:]
                    self._ended.wait(SLOW_PIECE / SLOW_RATE)
                other.sendall(data)
            if not dropping and not self._reset:
                other.shutdown(socket.SHUT_WR)
        except OSError:  # one of the peers is gone, or the connection was cut here: the other end hears of it
            self.cut()

    def _act(self, rule: Rule, rest: bytes, other: socket.socket) -> bytes:
        """Do what the rule says; return what is to be sent on of ``rest``. Raises OSError to end the way."""
        match rule.fault:
            case Fault.CUT | Fault.RESET:
                self._reset = rule.fault is Fault.RESET
                self.cut()
                raise ConnectionAbortedError("cut by rule")
            case Fault.STALL:
                self._ended.wait(rule.seconds)
            case Fault.HANG:
                self._ended.wait(rule.seconds)
                self.cut()
                raise ConnectionAbortedError("cut by rule")
            case Fault.TRUNCATE | Fault.HALF_CLOSE:
                if rule.fault is Fault.HALF_CLOSE:
                    other.shutdown(socket.SHUT_WR)
                threading.Thread(target=self._cut_later, args=(rule.seconds,), daemon=True).start()
            case Fault.FLIP:
                return bytes([rest[0] ^ 1 << rule.bit]) + rest[1:]
            case Fault.SIGNAL:
                self._on_signal()
            case Fault.DELAY | Fault.SLOW:
                pass
        return rest

    def _cut_later(self, seconds: float) -> None:
        self._ended.wait(seconds)
        self.cut()
