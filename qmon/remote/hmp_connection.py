"""A connection to a QEMU's human monitor on a socket: lines in, answers out, one after another."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from qmon.errors import CommandError, QmonError, reason
from qmon.host.sockets import connect
from qmon.notation.address import Address
from qmon.notation.telnet import GREETING, TelnetDecoder
from qmon.remote.hmp_text import PROMPT, Exchange, as_text, without_control
from qmon.remote.wrong_peer import is_human_monitor, not_human

_logger = logging.getLogger(__name__)

_PIECE = 1 << 16
_GREETING_MAX = 1 << 12


class HmpConnection:
    """A connection whose monitor has greeted. ``greeting`` is its first line."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = address
        self.greeting = ""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done when the connection has ended; its result says why."""
        self._reader = reader
        self._writer = writer
        self._telnet: TelnetDecoder | None = None
        self._turn = asyncio.Lock()
        self._exchange: Exchange | None = None
        self._answered: asyncio.Future[str] | None = None
        self._erase = b""
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, address: Address) -> HmpConnection:
        """Connect and wait for the greeting. Raises OSError, or QmonError if the peer is no human monitor."""
        sock = await asyncio.to_thread(connect, address)
        self = cls(address, *await asyncio.open_connection(sock=sock))
        try:
            await self._greet()
        except BaseException:
            self._writer.close()
            raise
        self._reading = asyncio.create_task(self._read())
        return self

    async def run(self, line: str) -> str:
        """Give a line; return what it prints, its rows end with CR LF.

        Cancelling only stops waiting: the monitor continues with the line, and later lines wait for it.
        Raises CommandError for a line that can't be given, or if the connection ends before its answer.
        """
        async with self._turn:
            if self._answered is not None:  # that of a line for which nobody waits any more
                await asyncio.wait([self._answered])
            if self.ended.done():
                raise CommandError(self.ended.result())
            exchange = Exchange(line, self._erase)
            self._answered = asyncio.get_running_loop().create_future()
            self._exchange = exchange
            self._write(exchange.typed)
            return await asyncio.shield(self._answered)

    async def close(self) -> None:
        """Leave; the monitor is free for the next client."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if not self.ended.done():
            self._end("the connection is closed")
        self._writer.close()
        with contextlib.suppress(OSError):  # it was lost before
            await self._writer.wait_closed()

    def _write(self, data: bytes) -> None:
        self._writer.write(data)

    async def _receive(self) -> bytes:
        """Return the next bytes; b"" at the end of the connection."""
        try:
            while data := await self._reader.read(_PIECE):
                if self._telnet is None and not self.greeting and data.startswith(GREETING[:2]):
                    self._telnet = TelnetDecoder()
                text = data if self._telnet is None else self._telnet.feed(data)
                if text:
                    return text
        except ConnectionResetError:  # it was closed while it had unread input: as when it quits
            pass
        return b""

    async def _greet(self) -> None:
        first = b""
        while not first.endswith(PROMPT):
            data = await self._receive()
            if not data:
                raise QmonError(
                    not_human(self.address, first) if first else f"{self.address} closed the connection"
                )
            first += data
            banner, complete, _ = without_control(first).partition(b"\n")
            if len(first) > _GREETING_MAX or (complete and not is_human_monitor(banner)):
                raise QmonError(not_human(self.address, first))
        self.greeting = as_text(without_control(first).partition(b"\r\n")[0])

    async def _read(self) -> None:
        try:
            while data := await self._receive():
                self._take(data)
        except OSError as error:
            self._end(f"{self.address}: {reason(error)}")
            return
        self._end(f"{self.address} closed the connection")

    def _take(self, data: bytes) -> None:
        exchange, answered = self._exchange, self._answered
        if exchange is None or answered is None:
            self._tell(as_text(without_control(data)))
            return
        if exchange.feed(data):
            self._exchange, self._answered = None, None
            self._erase = exchange.erase
            self._tell(exchange.unasked())
            try:
                answered.set_result(exchange.answer())
            except CommandError as error:
                answered.set_exception(error)
        elif exchange.asks_password:
            self._writer.close()
            self._end(f"{self.address} asks for a password: give it in the line")

    def _tell(self, text: str) -> None:
        """Tell what the monitor has printed without being asked."""
        for row in text.splitlines():
            if row.strip():
                _logger.warning("%s: %s", self.address, row)

    def _end(self, why: str) -> None:
        self.ended.set_result(why)
        answered, self._answered = self._answered, None
        if answered is not None:
            answered.set_exception(CommandError(why))
            answered.exception()  # nobody may wait for it any more
