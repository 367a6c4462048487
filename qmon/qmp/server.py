"""The QMP server (QEMU, docs/interop/qmp-spec)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from qmon.host.descriptors import TAKE_RECEIVED
from qmon.notation.json_writer import json_pieces
from qmon.qmp.claims import Claim, Claims
from qmon.qmp.framer import JsonFramer
from qmon.qmp.own_commands import RunLine, ServedTarget
from qmon.qmp.peer import Peer
from qmon.qmp.requests import jumps_the_queue
from qmon.qmp.session import Session, greeting
from qmon.qmp.target import Event, Target

log = logging.getLogger("qmon.qmp")

_READ_SIZE = 2 << 10
"""Bytes of one read. Parsing them keeps the loop only briefly, however many tokens they hold."""

QUEUE_MAX = 8
"""How many commands of a client with ``oob`` may wait for their turn (QEMU, monitor/qmp.c)."""

HELD_MAX = 4 << 20
"""A client is disconnected when this many bytes of events wait behind an answer that it does not read."""

NEWLINE = "\r\n"


def encode_event(event: Event) -> dict[str, Any]:
    """Return the message of an event."""
    seconds = int(event.timestamp)
    microseconds = int((event.timestamp - seconds) * 1_000_000)
    message: dict[str, Any] = {
        "event": event.name,
        "timestamp": {"seconds": seconds, "microseconds": microseconds},
    }
    if event.data:
        message["data"] = dict(event.data)
    return message


class QmpServer:
    """A front end that serves ``target`` to each client of a character device, in a session of its own.

    ``run_line`` is the human monitor, if the clients may use it. ``pretty``: answers are indented for a
    person to read.
    """

    def __init__(self, target: Target, run_line: RunLine | None = None, *, pretty: bool = False) -> None:
        self._target = ServedTarget(target, run_line)
        self._pretty = pretty

    async def serve(self, stream: Peer) -> None:
        """Serve one client until it disconnects. Raises OSError."""
        await _Connection(self._target, stream, pretty=self._pretty).serve()


class _Connection:
    """One client: its commands wait in a queue, its answers and events leave in order."""

    def __init__(self, target: Target, stream: Peer, *, pretty: bool) -> None:
        self._target = target
        self._stream = stream
        self._pretty = pretty
        self._session = Session(target)
        self._framer = JsonFramer()
        self._queue: deque[tuple[Any, Claim]] = deque()
        self._claims = Claims(TAKE_RECEIVED.get())
        self._is_busy = False
        """Whether a command waits or runs."""
        self._changed = asyncio.Event()
        self._answering = asyncio.Lock()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._serving: asyncio.Task[Any] | None = None

    async def serve(self) -> None:
        """Raises OSError."""
        self._serving = asyncio.current_task()
        self._write(greeting())
        unsubscribe = self._target.subscribe(self._tell)
        tasks = [asyncio.create_task(self._read_all()), asyncio.create_task(self._work())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            unsubscribe()
            self._framer.close()
            for _, claim in self._queue:
                claim.close()
            self._claims.close()

    async def _read_all(self) -> None:
        """Queue the client's commands; return when it sends no more and all have been answered."""
        while data := await self._stream.read(_READ_SIZE):
            for message in self._framer.feed(data):
                await self._take(message)
                del message  # it may be large, and the wait for the next one long
        await self._until(lambda: not self._is_busy)

    async def _take(self, message: Any) -> None:
        """Queue a message, or answer it now; wait until the next one may be read."""
        if jumps_the_queue(message):
            await self._answer(message)
            return
        is_small = self._framer.is_small
        self._queue.append((message, self._claims.claim()))
        del message
        self._is_busy = True
        self._changed.set()
        await self._until(
            lambda: not self._is_busy or (is_small and self._session.oob and len(self._queue) < QUEUE_MAX)
        )

    async def _work(self) -> None:
        """Run the queued commands, one after another."""
        while True:
            await self._until(lambda: self._is_busy)
            message, claim = self._queue.popleft()
            TAKE_RECEIVED.set(self._claims.begin(claim))
            try:
                await self._answer(message)
            finally:
                self._claims.end(claim)
            del message  # it may be large
            await self._stream.drain()
            self._is_busy = bool(self._queue)
            self._changed.set()

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._changed.clear()
            await self._changed.wait()

    async def _answer(self, message: Any) -> None:
        """Run a command and send its response, a large one in pieces, so that other clients are served."""
        response = await self._session.answer(message)
        del message
        async with self._answering:
            pieces = self._pieces(response)
            piece = next(pieces)
            for following in pieces:
                self._stream.write(piece.encode())
                await self._stream.drain()
                await asyncio.sleep(0)
                piece = following
            self._stream.write(f"{piece}{NEWLINE}".encode())
        for event in self._held:
            self._stream.write(event)
        self._held.clear()
        self._held_bytes = 0

    def _tell(self, event: Event) -> None:
        """Send an event, behind the answer that is being sent."""
        if not self._session.negotiated or event.private:
            return
        if not self._answering.locked():
            self._write(encode_event(event))
            return
        data = self._encode(encode_event(event))
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > HELD_MAX and self._serving is not None:
            log.warning("a QMP client was disconnected: it does not read its events")
            self._serving.cancel()

    def _write(self, message: dict[str, Any]) -> None:
        self._stream.write(self._encode(message))

    def _encode(self, message: dict[str, Any]) -> bytes:
        return f"{''.join(self._pieces(message))}{NEWLINE}".encode()

    def _pieces(self, message: dict[str, Any]) -> Iterator[str]:
        return json_pieces(message, pretty=self._pretty, newline=NEWLINE)
