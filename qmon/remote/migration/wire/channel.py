"""The connection between the two consoles: requests with answers, news, and a sign of life each second.

Each message is a JSON object in a line of at most LINE_BYTES_MAX bytes: a request {"execute", "arguments",
"id"}, its answer {"return", "id"} or {"error", "id"}, or news {"event", "data"}.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from qmon.errors import CommandError, ConnectionLostError, QmonError, reason
from qmon.notation.plain_text import one_line

LINE_BYTES_MAX = 1 << 20
ALIVE_SECONDS = 1.0
SILENCE_SECONDS = 6.0
"""After this time without a message the connection counts as lost."""
REQUESTS_MAX = 16
"""Requests of the other side that may run at a time."""

_ALIVE = "alive"

Data = Mapping[str, Any]
Answer = Callable[[str, Data], Awaitable[Any]]
"""Answers a request by its name and arguments. Raises QmonError."""


class Channel:
    """An open connection to the other console. ``lost`` is set when it is over; ``why`` then says why."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Answer,
        hear: Callable[[str, Data], None],
    ) -> None:
        self.lost = asyncio.Event()
        self.why = ""
        self._reader, self._writer = reader, writer
        self._answer, self._hear = answer, hear
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._next = 0
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._live())]

    async def ask(self, command: str, arguments: Data | None = None, seconds: float = 60.0) -> Any:
        """Send a request; return its answer. Raises CommandError, ConnectionLostError."""
        if self.lost.is_set():
            raise ConnectionLostError(f"the connection to the other console was lost: {self.why}")
        self._next += 1
        number = self._next
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._send({"execute": command, "arguments": dict(arguments or {}), "id": number})
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError as error:
            raise CommandError(f"the other console has not answered '{command}' in {seconds:g} s") from error
        finally:
            self._waiting.pop(number, None)

    def tell(self, event: str, data: Data | None = None) -> None:
        """Send news, unless the connection is lost."""
        if not self.lost.is_set():
            self._send({"event": event, "data": dict(data or {})})

    async def close(self, why: str = "it was closed") -> None:
        """End the connection; idempotent."""
        self._end(why)
        current = asyncio.current_task()
        others = [each for each in (*self._tasks, *self._answering) if each is not current]
        for each in others:
            each.cancel()
        if others:
            await asyncio.wait(others)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def _end(self, why: str) -> None:
        if self.lost.is_set():
            return
        self.why = why
        self.lost.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(
                    ConnectionLostError(f"the connection to the other console was lost: {why}")
                )
        if self._writer.transport.get_write_buffer_size():
            self._writer.transport.abort()
        else:
            self._writer.close()

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        if len(line) > LINE_BYTES_MAX:
            raise CommandError(f"a message to the other console is longer than {LINE_BYTES_MAX} bytes")
        self._writer.write(line)

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.lost.is_set():
            self.tell(_ALIVE)
            await asyncio.sleep(ALIVE_SECONDS)
            silent = loop.time() - self._heard
            if silent > SILENCE_SECONDS:
                self._end(f"nothing was heard from the other console for {silent:.0f} s")

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                self._heard = asyncio.get_running_loop().time()
                self._take(json.loads(line))
            self._end("the other console closed it")
        except (OSError, EOFError) as error:
            self._end(reason(error))
        except (ValueError, RecursionError, QmonError) as error:
            self._end(f"a message can't be read: {one_line(reason(error))}")

    def _take(self, message: Any) -> None:
        if not isinstance(message, dict):
            raise QmonError("it is no JSON object")
        number = message.get("id")
        data = message.get("data", message.get("arguments", {}))
        if not isinstance(data, dict):
            raise QmonError("its data are no JSON object")
        if "event" in message:
            if message["event"] != _ALIVE:
                self._hear(str(message["event"]), data)
        elif "execute" in message:
            if len(self._answering) >= REQUESTS_MAX:
                raise QmonError(f"more than {REQUESTS_MAX} requests at a time")
            task = asyncio.create_task(self._reply(str(message["execute"]), data, number))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif isinstance(number, int) and (future := self._waiting.get(number)) is not None:
            if future.done():
                return
            if "error" in message:
                future.set_exception(CommandError(one_line(str(message["error"]))))
            else:
                future.set_result(message.get("return"))

    async def _reply(self, command: str, arguments: Data, number: Any) -> None:
        try:
            result: dict[str, Any] = {"return": await self._answer(command, arguments)}
        except QmonError as error:
            result = {"error": str(error)}
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            result = {"error": f"'{one_line(command)}' can't be read: {reason(error)}"}
        if not self.lost.is_set():
            self._send({**result, "id": number})


async def open_channel(sock: socket.socket, answer: Answer, hear: Callable[[str, Data], None]) -> Channel:
    """Return the channel of a connected socket whose first line has been answered."""
    reader, writer = await asyncio.open_connection(sock=sock, limit=LINE_BYTES_MAX)
    return Channel(reader, writer, answer, hear)
