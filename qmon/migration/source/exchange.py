"""The source's end of a connection that carries forwarded requests: many on their way, each sent once.

Nothing is repeated. When the connection ends, what was on its way fails with EIO, since nobody knows whether
it was done. What was not sent yet fails with ESHUTDOWN.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from qmon.block.node import Buffer
from qmon.block.transfers import Carrier, Transfer
from qmon.errors import QmonError, reason
from qmon.migration.source.forward_request import Request, Waiter, pieces
from qmon.migration.source.on_their_way import Asked, OnTheirWay, Sent
from qmon.migration.source.receiving_turns import Turns
from qmon.migration.source.vital_signs import VitalSigns
from qmon.migration.wire.forward import (
    MAX_LENGTH,
    REPLY,
    REQUEST,
    ForwardError,
    Kind,
    Message,
    Messages,
    Operation,
    pack,
)
from qmon.migration.wire.receiving import prepare, receive, receive_now, send_all, send_now
from qmon.migration.wire.security import Line

_READ, _WRITE = int(Operation.READ), int(Operation.WRITE)
_pack_request = REQUEST.pack


class Exchange:
    """Sends requests and takes the replies. Thread-safe; ``on_end`` is called once, with the reason."""

    def __init__(self, line: Line, on_end: Callable[[str], None]) -> None:
        self._line = line
        self._on_end = on_end
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        """Threads that wait for a change: for room, or until nothing is on its way."""
        self._sending = threading.Lock()
        self._on_their_way = OnTheirWay()
        self._vital_signs = VitalSigns()
        self._messages = Messages()
        self._why_stopped = ""
        self.has_ended = False
        self.done = 0
        """How many requests were answered."""
        prepare(line)
        self._turns = Turns(line, self)
        self.carrier: Carrier | None = self._turns if self._turns.can_be_claimed else None
        """Where the ends of transfers arrive; None if the threads that wait for them can't receive."""

    @property
    def in_flight(self) -> int:
        """How many requests are on their way."""
        return len(self._on_their_way)

    def start(self) -> None:
        """Begin to take replies. Raises OSError; then the line is closed."""
        self._turns.start()

    def stop(self, why: str, seconds: float = 0.0) -> None:
        """End it, after at most ``seconds`` in which what is on its way may be answered. Blocks."""
        with self._lock:
            self._wait_for(lambda: self.has_ended or not self._on_their_way, seconds)
            self._why_stopped = self._why_stopped or why
        with contextlib.suppress(OSError):  # already disconnected
            self._line.shutdown(socket.SHUT_RDWR)
        self._turns.join()

    # Sending

    def tell(self, kind: Kind, *, number: int = 0, body: bytes = b"") -> None:
        """Send a message that has no requests. Raises OSError."""
        self._transmit(pack(kind, (body,), number=number, stamp=_stamp()))

    def ask(self, drive: int, requests: Sequence[Request]) -> None:
        """Have requests done by the destination, and wait for all of them."""
        for piece in pieces(requests):
            waiter = Waiter(piece)
            sent: list[Sent] = [(drive, each.weight, each.expected, each) for each in piece]
            weight = sum(each.weight for each in piece)
            with self._lock:
                self._wait_for(partial(self._is_free, len(sent), weight))
                cookie = self._note(sent, weight)
            self._send(
                cookie,
                sent,
                [(each.operation, each.flags, each.offset, each.length, each.data) for each in piece],
            )
            self._turns.wait(waiter)

    def begin(self, drive: int, transfers: Sequence[Transfer]) -> bool:
        """Begin transfers, which end by themselves; return False, and begin none, if there is no room now."""
        sent: list[Sent] = [
            (drive, each.length, 0 if each.is_write else each.length, each) for each in transfers
        ]
        weight = sum(each.length for each in transfers)
        with self._lock:
            if not self._is_free(len(sent), weight):
                return False
            cookie = self._note(sent, weight)
        self._send(
            cookie,
            sent,
            [
                (_WRITE, 0, each.offset, each.length, each.buffer)
                if each.is_write
                else (_READ, 0, each.offset, each.length, b"")
                for each in transfers
            ],
        )
        return True

    def _is_free(self, count: int, weight: int) -> bool:
        """Whether so many requests can be sent now, or never more."""
        has_room = self._on_their_way.has_room(count, weight) and not self._vital_signs.is_held
        return has_room or self.has_ended

    def _wait_for(self, is_so: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait; the lock is held."""
        if not is_so():
            self._waiting += 1
            self._changed.wait_for(is_so, seconds)
            self._waiting -= 1

    def _note(self, sent: Sequence[Sent], weight: int) -> int | None:
        """Note requests that will be sent; return the first cookie, None if it has ended. Holds the lock."""
        if self.has_ended:
            return None
        cookie = self._on_their_way.add(sent, weight)
        self._turns.busy()
        return cookie

    def _send(self, cookie: int | None, sent: Sequence[Sent], requests: Sequence[_Form]) -> None:
        """Send what was noted. An error ends the exchange."""
        if cookie is None:
            _fail((asked for *_, asked in sent), errno.ESHUTDOWN)
            return
        try:
            for message in _messages(sent[0][0], cookie, requests):
                self._transmit(message)
        except (OSError, MemoryError) as error:
            self._lose(error)

    def _transmit(self, message: Sequence[Buffer]) -> None:
        """Send. If that takes time the keeper receives. Raises OSError."""
        with self._sending:
            if left := send_now(self._line, message):
                with self._turns.sending():
                    send_all(self._line, left)

    # Receiving

    def receive(self, seconds: float) -> None:
        """Receive what is there, or comes within so long; an error ends the exchange."""
        try:
            room = self._messages.room()
            count = receive(self._line, room, seconds) if seconds else receive_now(self._line, room)
            if count:
                self._received(count)
            elif count is not None:
                self._end("the destination closed the connection")
        except (OSError, QmonError, MemoryError) as error:
            self._lose(error)

    def _received(self, count: int) -> None:
        """Take the messages that are complete now. Raises ForwardError."""
        self._vital_signs.heard()
        self._messages.filled(count)
        for message in self._messages.items():
            if message.kind == Kind.REPLIES:
                self._take_replies(message)
            elif message.kind != Kind.PONG:
                raise ForwardError(
                    f"the destination sent a message of kind {message.kind} that was not expected"
                )
        if self._waiting:
            with self._lock:
                self._changed.notify_all()

    def _take_replies(self, message: Message) -> None:
        """End the requests that are answered. Raises ForwardError; then those that are left fail with EIO."""
        records, data = message.records(REPLY)
        with self._lock:
            answered = self._on_their_way.take(records)
        self.done += len(answered)
        left = iter(answered)
        at = 0
        try:
            for code, sent, size in left:
                if sent is None:
                    raise ForwardError("the destination sent a reply to no request")
                _, _, expected, asked = sent
                end = at + size
                if code:
                    asked.end(_error(code))
                elif end > len(data) or (expected is not None and size != expected):
                    asked.end(_error(errno.EIO))
                    raise ForwardError(f"the destination sent {size} bytes that were not asked for")
                elif size:
                    _fill(asked, data[at:end])
                else:
                    asked.end()
                at = end
        finally:
            _fail((sent[3] for _, sent, _ in left if sent is not None), errno.EIO)

    # The end

    def give_up(self, drive: int) -> None:
        """Nobody waits for a drive's requests any more: those on their way fail with EIO."""
        with self._lock:
            left = self._on_their_way.give_up(drive)
        _fail(left, errno.EIO)

    def look(self) -> None:
        """Ask for a sign of life if nothing has come for long, and give up in the end."""
        if self._vital_signs.is_lost:
            silence = self._vital_signs.silence
            self._end(f"the connection to the destination was lost: it has sent nothing for {silence:.0f} s")
        elif self._vital_signs.asks():
            self._ping()

    def _ping(self) -> None:
        """Ask for a sign of life, unless somebody is sending: that asks for an answer, too."""
        if not self._sending.acquire(blocking=False):
            return
        try:
            send_all(self._line, pack(Kind.PING, stamp=_stamp()))
        except OSError as error:
            self._lose(error)
        finally:
            self._sending.release()

    def another_waits(self, wake: Callable[[], None] | None) -> Callable[[], None] | None:
        """Return the ``wake`` of a thread that waits for a reply, other than this one."""
        with self._lock:
            return self._on_their_way.another(wake)

    def broken(self) -> None:
        """End it because of an internal error."""
        self._end("internal error")

    def _lose(self, error: Exception) -> None:
        self._end(f"the connection to the destination was lost: {reason(error)}")

    def _end(self, why: str) -> None:
        with self._lock:
            if self.has_ended:
                return
            self.has_ended = True
            left = self._on_their_way.clear()
            self._changed.notify_all()
        self._turns.ended()
        _fail(left, errno.EIO)
        with contextlib.suppress(OSError):  # already disconnected
            self._line.shutdown(socket.SHUT_RDWR)
        self._on_end(self._why_stopped or why)


_Form = tuple[int, int, int, int, Buffer]
"""Operation, flags, offset, length, data of a write."""


def _messages(drive: int, cookie: int, requests: Iterable[_Form]) -> Iterator[list[Buffer]]:
    """Yield the messages for requests whose cookies begin with ``cookie``."""
    records: list[bytes] = []
    pieces: list[Buffer] = []
    size = 0
    for operation, flags, offset, length, data in requests:
        if operation == _WRITE:
            if size + length > MAX_LENGTH:
                yield pack(Kind.REQUESTS, [b"".join(records), *pieces], number=len(records), stamp=_stamp())
                records, pieces, size = [], [], 0
            pieces.append(data)
            size += length
        records.append(_pack_request(operation, flags, drive, cookie, offset, length))
        cookie += 1
    yield pack(Kind.REQUESTS, [b"".join(records), *pieces], number=len(records), stamp=_stamp())


def _fail(asked: Iterable[Asked], code: int) -> None:
    for each in asked:
        each.end(_error(code))


def _fill(asked: Asked, data: memoryview) -> None:
    """End a request with what its reply has brought."""
    try:
        asked.fill(data)
    except MemoryError:
        asked.end(_error(errno.ENOMEM))
    else:
        asked.end()


def _error(code: int) -> OSError:
    """Return the failure for an errno that the destination sent."""
    known = code if code in errno.errorcode else errno.EIO
    return OSError(known, os.strerror(known))


def _stamp() -> int:
    return int(time.monotonic() * 1000) & 0xFFFFFFFF
