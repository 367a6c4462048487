"""Lines from a file or a pipe, run one after another until one fails."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from typing import Protocol

from qmon.errors import QmonError, reason
from qmon.hmp.monitor import Monitor
from qmon.hmp.person import Person
from qmon.hmp.transcript import PROMPT, lines_to_run
from qmon.hmp.words import comment_start
from qmon.units import MIB, human_size

READ_BYTES = 64 << 10
LINE_BYTES_MAX = MIB
"""What comes without a line end for longer than this is no script."""


class Stream(Protocol):
    """An open file, pipe, socket or terminal."""

    def fileno(self) -> int:
        """Its file descriptor."""


async def run_script(monitor: Monitor, text_or_stream: str | Stream, name: str, person: Person) -> int:
    """Run the lines of a text or of an open file; return 0 at its end or at ``quit``, else 1.

    It stops at the first line that fails, and says on stderr which that was, as ``NAME:LINE: ...``. A line of
    a pipe runs when it arrives. Text with prompts is a transcript, of which only the lines with a prompt run:
    for a text or a file that is judged of the whole, for a pipe of the lines that one read brings, and from
    the first prompt on for all that follows. Raises OSError when reading fails.
    """
    if isinstance(text_or_stream, str):
        lines = _lines_of_text(text_or_stream)
    else:
        lines = _lines_of_stream(text_or_stream)
    async for number, line in lines:
        if line[: comment_start(line)].strip():
            person.history.append(line)
        if not await monitor.run_line(line, person):
            print(f"{name}:{number}: failed: {line.strip()}", file=sys.stderr, flush=True)
            return 1
        if monitor.quitting:
            break
    return 0


async def _lines_of_text(text: str) -> AsyncIterator[tuple[int, str]]:
    for numbered in lines_to_run(text):
        yield numbered


async def _lines_of_stream(stream: Stream) -> AsyncIterator[tuple[int, str]]:
    descriptor = stream.fileno()
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        pieces = []
        while piece := await asyncio.to_thread(os.read, descriptor, MIB):
            pieces.append(piece)
        for numbered in lines_to_run(_decode(b"".join(pieces))):
            yield numbered
        return
    read_lines = 0
    pending = b""
    transcript = False
    while piece := await _read_when_ready(descriptor):
        whole, newline, pending = (pending + piece).rpartition(b"\n")
        if len(pending) > LINE_BYTES_MAX:
            raise OSError(f"line {read_lines + 1} is longer than {human_size(LINE_BYTES_MAX)}")
        text = _decode(whole + newline)
        transcript = transcript or _has_prompt(text)
        for number, line in _to_run(text, transcript):
            yield read_lines + number, line
        read_lines += text.count("\n")
    for number, line in _to_run(_decode(pending), transcript):
        yield read_lines + number, line


def _has_prompt(text: str) -> bool:
    return any(line.lstrip(" \t").startswith(PROMPT) for line in text.split("\n"))


def _to_run(text: str, transcript: bool) -> list[tuple[int, str]]:
    return lines_to_run(text) if not transcript or _has_prompt(text) else []


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


async def _read_when_ready(descriptor: int) -> bytes:
    """Read what there is, waiting for it on the loop, so that an idle pipe keeps no thread from ending."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_reader(descriptor, wake)
    except PermissionError:
        return os.read(descriptor, READ_BYTES)  # epoll takes no file that never blocks, such as /dev/null
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, READ_BYTES)


class PlainProgress:
    """A Progress of one line for each tenth."""

    def __init__(self, person: Person, title: str) -> None:
        self._person = person
        self._title = title
        self._shown = 0

    def update(self, done: int, total: int, note: str = "") -> None:
        tenth = done * 10 // total if total > 0 else 0
        if tenth > self._shown:
            self._shown = tenth
            sizes = f"{human_size(done)} of {human_size(total)}"
            self._person.print(
                ", ".join(filter(None, (f"{self._title}: {done * 100 // total}%", sizes, note)))
            )

    def close(self) -> None:
        """Nothing stays to be taken away."""


class OutputGoneError(QmonError):
    """Nobody reads what a script prints."""


class ScriptPerson:
    """A Person (``qmon.hmp.person``) who wrote a script: it prints to stdout, and nobody answers.

    Printing raises OutputGoneError.
    """

    interactive = False
    comments = True

    def __init__(self) -> None:
        self.history: list[str] = []

    def print(self, text: str) -> None:
        data = f"{text}\n".encode("utf-8", "surrogateescape")
        try:
            print(data.decode("utf-8", "replace"), end="", flush=True)
        except OSError as error:
            raise OutputGoneError(f"standard output: {reason(error)}") from error

    async def ask(self, question: str) -> bool:
        return True

    def progress(self, title: str) -> PlainProgress:
        return PlainProgress(self, title)
