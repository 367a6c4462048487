"""A monitor on a character device: each client has its own line editor and history."""

from __future__ import annotations

import asyncio
import codecs
import logging
from collections.abc import Callable

from qmon.errors import QmonError
from qmon.hmp.editing.completion import complete
from qmon.hmp.fronts.readline import (
    Key,
    Readline,
    columns,
    common_prefix,
)
from qmon.hmp.monitor import Monitor
from qmon.hmp.prompt import BANNER, PROMPT
from qmon.notation.plain_text import one_line, plain
from qmon.qmp.peer import Peer

_logger = logging.getLogger(__name__)


class SocketMonitor:
    """Serves a monitor to each client of a character device."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    async def serve(self, stream: Peer) -> None:
        """Serve one client until it disconnects or a ``quit`` succeeds. Raises OSError."""
        await _Session(self._monitor, stream).run()


class _Session:
    def __init__(self, monitor: Monitor, stream: Peer) -> None:
        self._monitor = monitor
        self._stream = stream
        self._readline = Readline(PROMPT)
        self._person = SocketPerson(self._readline, self._write)
        self._unsent: list[str] = []

    async def run(self) -> None:
        try:
            await self._talk()
        finally:
            self._send()

    async def _talk(self) -> None:
        self._write(f"{BANNER}\r\n")
        self._write(self._readline.show_prompt())
        decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        while data := await self._stream.read():
            for character in decode(data):
                key = self._readline.feed(character)
                if key is not None:
                    self._write(self._readline.update())
                    await self._act(key)
                    if self._monitor.quitting:
                        return
                elif self._readline.is_short:
                    self._write(self._readline.update())
            self._write(self._readline.update())
            await self._drain()

    async def _act(self, key: Key) -> None:
        match key:
            case Key.ENTER:
                line = self._readline.take_line()
                self._write("\r\n")
                await self._monitor.run_line(line, self._person)
                if not self._monitor.quitting:
                    self._write(self._readline.show_prompt())
                await self._drain()
            case Key.TAB:
                await self._complete()
            case Key.CLEAR:
                self._write(self._readline.clear_screen())

    async def _complete(self) -> None:
        """Insert the common beginning of all completions; list them if there are several."""
        line, cursor = self._readline.line, self._readline.cursor
        try:
            suggestions = await complete(self._monitor, line[:cursor])
        except QmonError as error:
            _logger.debug("nothing to complete '%s' with: %s", line[:cursor], error)
            return
        if not suggestions:
            return
        start = suggestions[0].start
        typed = line[start:cursor]
        # As in QEMU, flags are not completed until one is begun: a single drive's name is inserted at once.
        words = sorted({suggestion.text for suggestion in suggestions if typed or not suggestion.is_flag})
        if not words:
            return
        if len(words) == 1:
            space = "" if words[0].endswith("/") else " "
            self._readline.replace(start, words[0] + space)
            self._write(self._readline.update())
            return
        shared = common_prefix(words)
        if len(shared) > len(typed):
            self._readline.replace(start, shared)
        for row in columns([one_line(word) for word in words]):
            self._write(f"\r\n{row}")
        self._write("\r\n" + self._readline.show_prompt())

    def _write(self, text: str) -> None:
        """Write text; what is written without a wait between goes out in one piece."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send)
        self._unsent.append(text)

    def _send(self) -> None:
        text = "".join(self._unsent)
        self._unsent.clear()
        if text:
            self._stream.write(text.encode("utf-8", "surrogateescape"))

    async def _drain(self) -> None:
        self._send()
        await self._stream.drain()


class SocketPerson:
    """The Person (``qmon.hmp.person``) at the other end of a socket: mostly a program, so nobody answers."""

    interactive = False
    comments = False

    def __init__(self, readline: Readline, write: Callable[[str], None]) -> None:
        self._readline = readline
        self._write = write

    @property
    def history(self) -> list[str]:
        return self._readline.history

    def print(self, text: str) -> None:
        self._write(plain(text).replace("\n", "\r\n") + "\r\n")

    async def ask(self, question: str) -> bool:
        return True

    def progress(self, title: str) -> SocketProgress:
        return SocketProgress(self._write)


class SocketProgress:
    """A Progress (``qmon.hmp.person``) on one line that is overwritten."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown = -1

    def update(self, done: int, total: int, note: str | None = None) -> None:
        percent = done * 100 // total if total > 0 else 100
        if percent != self._shown:
            self._shown = percent
            self._write(f"Completed {percent} %\r")

    def close(self) -> None:
        if self._shown >= 0:
            self._shown = -1
            self._write("\r\n")
