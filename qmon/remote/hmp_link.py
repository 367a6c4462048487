"""A connection to a QEMU's human monitor on a socket: lines in, answers out, one after another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError, CommandNotFoundError, ConnectionLostError, QmonError, reason
from qmon.notation.telnet import GREETING, TelnetDecoder
from qmon.qmp.target import Arguments
from qmon.remote.address import RemoteAddress
from qmon.remote.greeting import Patience, greeted
from qmon.remote.hmp_text import PROMPT, Exchange, as_text, without_control
from qmon.remote.link import Hear, NoDescriptors, lost, no_out_of_band
from qmon.remote.secured import Secure
from qmon.remote.wrong_peer import is_human_monitor, not_human

_logger = logging.getLogger(__name__)

PASS_LINE = "human-monitor-command"
"""The one command that a human monitor can run."""

_PIECE = 1 << 16
_GREETING_MAX = 1 << 12
_VERSION = re.compile(r"QEMU (?P<major>\d{1,9})\.(?P<minor>\d{1,9})\.(?P<micro>\d{1,9})\b")
_QUIT = re.compile(r"\s*(?:quit|q)\s*")


class HmpLink(NoDescriptors):
    """A Link (``qmon.remote.link``) to a human monitor that has greeted."""

    commands = frozenset({PASS_LINE})

    def __init__(
        self, address: RemoteAddress, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.version: Mapping[str, Any] = {}
        self._address = address
        self._reader = reader
        self._writer = writer
        self._telnet: TelnetDecoder | None = None
        self._turn = asyncio.Lock()
        self._exchange: Exchange | None = None
        self._answered: asyncio.Future[str] | None = None
        self._erase = b""
        self._cpu: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def execute(self, command: str, arguments: Arguments | None, *, oob: bool = False) -> Any:
        if command != PASS_LINE:
            raise CommandNotFoundError(command)
        if oob:
            raise no_out_of_band(command)
        given = arguments or {}
        cpu = given.get("cpu-index")
        if cpu is not None and cpu != self._cpu:
            if await self._run(f"cpu {cpu}"):
                raise CommandError("Parameter 'cpu-index' expects a CPU number")
            self._cpu = cpu
        line = str(given.get("command-line", ""))
        try:
            return await self._run(line) if line.strip() else ""
        except ConnectionLostError:
            if _QUIT.fullmatch(line):
                return ""
            raise

    async def wait_ended(self) -> str:
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        self._end("the connection is closed")
        self._writer.transport.abort()  # a monitor that is stuck takes no more input
        with contextlib.suppress(OSError):  # it was lost before
            await self._writer.wait_closed()

    async def greet(self) -> None:
        """Read the greeting and the first prompt. Raises QmonError if they are not a human monitor's."""
        text = b""
        while not text.endswith(PROMPT):
            data = await self._receive()
            text += data
            shown = without_control(text)
            row, is_complete, _ = shown.partition(b"\n")
            if not data or len(text) > _GREETING_MAX or (is_complete and not is_human_monitor(row)):
                raise QmonError(not_human(str(self._address.place), shown))
        found = _VERSION.match(as_text(row))
        if found is not None:
            self.version = {"qemu": {key: int(number) for key, number in found.groupdict().items()}}
        self._reading = asyncio.create_task(self._read())

    async def _run(self, line: str) -> str:
        """Give a line; return what it prints. If it is cancelled, later lines wait for this one."""
        async with self._turn:
            if self._answered is not None:  # that of a line for which nobody waits any more
                await asyncio.wait([self._answered])
            if self._ended.done():
                raise lost(self._address)
            exchange = Exchange(line, self._erase)
            answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._exchange, self._answered = exchange, answered
            self._writer.write(exchange.typed)
            return await asyncio.shield(answered)

    async def _receive(self) -> bytes:
        """Return the next bytes; b"" at the end of the connection."""
        try:
            while data := await self._reader.read(_PIECE):
                if self._reading is None and data.startswith(GREETING[:2]):
                    self._telnet = TelnetDecoder()
                text = data if self._telnet is None else self._telnet.feed(data)
                if text:
                    return text
        except ConnectionResetError:  # it was closed while it had unread input: as when it quits
            pass
        return b""

    async def _read(self) -> None:
        why = "the other end closed it"
        try:
            while data := await self._receive():
                self._take(data)
        except OSError as error:
            why = reason(error)
        self._end(why)

    def _take(self, data: bytes) -> None:
        exchange, answered = self._exchange, self._answered
        if exchange is None or answered is None:
            self._tell(as_text(without_control(data)))
        elif exchange.feed(data):
            self._exchange, self._answered = None, None
            self._erase = exchange.erase
            self._tell(exchange.unasked())
            try:
                answered.set_result(exchange.answer())
            except CommandError as error:
                answered.set_exception(error)
        elif exchange.asks_password:
            self._answered = None
            answered.set_exception(CommandError("a password can't be asked for here: write it in the line"))
            self._end("it waits for a password")
            self._writer.close()

    def _tell(self, text: str) -> None:
        """Tell what the monitor has printed without being asked."""
        for row in text.splitlines():
            if row.strip():
                _logger.warning("%s: %s", self._address, row)

    def _end(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)
        answered, self._answered = self._answered, None
        if answered is not None:
            answered.set_exception(lost(self._address))
            answered.exception()  # nobody may wait for it any more


async def open_hmp(
    address: RemoteAddress, hear: Hear, patience: Patience, secure: Secure | None = None
) -> HmpLink:
    """Connect and wait for the prompt. A human monitor tells no events. Raises QmonError."""
    sock, first = await greeted(address.socket, patience, "-monitor", secure)
    try:
        link = HmpLink(address, *await asyncio.open_connection(sock=sock))
    except BaseException:
        sock.close()
        raise
    try:
        if not (first.startswith(GREETING[:2]) or is_human_monitor(first)):
            raise QmonError(not_human(str(address.place), first))
        async with asyncio.timeout(patience.seconds):
            await link.greet()
    except TimeoutError as error:
        await link.close()
        raise QmonError("the greeting has no prompt behind it: this is not a human monitor") from error
    except BaseException:
        await link.close()
        raise
    return link
