"""A monitor on a socket: as many clients as come, each with a line editor and a history of its own."""

from __future__ import annotations

import asyncio
import codecs
import logging
import socket
from collections.abc import Callable

from qmon.errors import QmonError
from qmon.hmp.completion import complete
from qmon.hmp.monitor import Monitor
from qmon.hmp.readline import Key, Readline, columns, common_prefix
from qmon.hmp.transcript import PROMPT
from qmon.version import VERSION

READ_BYTES = 4096

_logger = logging.getLogger(__name__)


class SocketMonitor:
    """Serves a monitor to every client of a listening socket, which it owns from now on."""

    def __init__(self, monitor: Monitor, listener: socket.socket) -> None:
        self._monitor = monitor
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(self) -> None:
        """Begin to accept clients. May be called once."""
        self._listener.setblocking(False)
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def stop(self) -> None:
        """Stop listening and close all connections; what their lines have started goes on."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        clients = [client for client in self._clients if client is not asyncio.current_task()]
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await _Session(self._monitor, reader, writer).run()
        except ConnectionError as error:
            _logger.debug("a monitor client is gone: %s", error)
        except asyncio.CancelledError:
            # asyncio's streams would log a traceback for a task that ends as cancelled
            if not self._stopping:
                raise
        finally:
            self._clients.discard(task)
            writer.close()


class _Session:
    def __init__(self, monitor: Monitor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._monitor = monitor
        self._reader = reader
        self._writer = writer
        self._readline = Readline(PROMPT)
        self._person = SocketPerson(self._readline, self._write)

    async def run(self) -> None:
        """Serve until the client goes or a ``quit`` succeeded. Raises ConnectionError."""
        self._write(f"qmon {VERSION} monitor - type 'help' for more information\r\n")
        self._write(self._readline.show_prompt())
        decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        while data := await self._reader.read(READ_BYTES):
            for character in decode(data):
                key = self._readline.feed(character)
                if key is not None:
                    self._write(self._readline.update())
                    await self._act(key)
                    if self._monitor.quitting:
                        await self._writer.drain()
                        return
            self._write(self._readline.update())
            await self._writer.drain()

    async def _act(self, key: Key) -> None:
        match key:
            case Key.ENTER:
                line = self._readline.take_line()
                self._write("\r\n")
                await self._monitor.run_line(line, self._person)
                if not self._monitor.quitting:
                    self._write(self._readline.show_prompt())
                await self._writer.drain()
            case Key.TAB:
                await self._complete()
            case Key.CLEAR:
                self._write(self._readline.clear_screen())

    async def _complete(self) -> None:
        """Insert what all completions share; where there are several, list them."""
        line, cursor = self._readline.line, self._readline.cursor
        try:
            suggestions = await complete(self._monitor, line[:cursor])
        except QmonError as error:
            _logger.debug("nothing to complete '%s' with: %s", line[:cursor], error)
            return
        if not suggestions:
            return
        words = [suggestion.text for suggestion in suggestions]
        start = suggestions[0].start
        if len(words) == 1:
            space = "" if words[0].endswith("/") else " "
            self._readline.replace(start, words[0] + space)
            return
        shared = common_prefix(words)
        if len(shared) > cursor - start:
            self._readline.replace(start, shared)
        for row in columns(words):
            self._write(f"\r\n{row}")
        self._write("\r\n" + self._readline.show_prompt())

    def _write(self, text: str) -> None:
        if text and not self._writer.is_closing():
            self._writer.write(text.encode("utf-8", "surrogateescape"))


class SocketPerson:
    """A Person (``qmon.hmp.person``) at the other end of a socket, mostly a script: nobody answers."""

    interactive = False
    comments = False

    def __init__(self, readline: Readline, write: Callable[[str], None]) -> None:
        self._readline = readline
        self._write = write

    @property
    def history(self) -> list[str]:
        return self._readline.history

    def print(self, text: str) -> None:
        self._write(text.replace("\n", "\r\n") + "\r\n")

    async def ask(self, question: str) -> bool:
        return True

    def progress(self, title: str) -> SocketProgress:
        return SocketProgress(self._write)


class SocketProgress:
    """A Progress (``qmon.hmp.person``) on one line that is written over."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown = -1

    def update(self, done: int, total: int, note: str = "") -> None:
        percent = done * 100 // total if total > 0 else 100
        if percent != self._shown:
            self._shown = percent
            self._write(f"Completed {percent} %\r")

    def close(self) -> None:
        if self._shown >= 0:
            self._shown = -1
            self._write("\r\n")
