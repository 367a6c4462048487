"""Lines from a file or a pipe, run one after another until one fails."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from qmon.errors import reason
from qmon.hmp.handlers import LineRunner
from qmon.hmp.line.secrets import without_secrets
from qmon.hmp.line.transcript import LeftOut, LineReader
from qmon.hmp.origin import Origin, Report
from qmon.hmp.person import InnerLineError, LineError, Person
from qmon.notation.units import MIB, human_size

READ_BYTES = 64 << 10
LINE_BYTES_MAX = MIB
"""The longest line of a script in bytes."""
SCRIPT_BYTES_MAX = 64 * MIB
TURN_SECONDS = 0.002
"""After so many seconds of lines that do not wait, other tasks of the loop get a turn."""
INCLUDES_MAX = 50
"""The most nested includes: far more than anybody needs, and far fewer than the stack can hold."""


class Stream(Protocol):
    """An open file, pipe, socket or terminal."""

    def fileno(self) -> int:
        """Return its file descriptor."""


class PersonReport:
    """The Report of an ``include`` that a person typed: the first failing line ends it."""

    def __init__(self, monitor: LineRunner, person: Person) -> None:
        self._monitor = monitor
        self._person = person

    def begin(self, origin: Origin) -> None:
        pass

    def end(self, origin: Origin, error: str | None) -> bool:
        if error is None:
            return True
        if error:
            self._person.print(error)
        self._person.print(failure(origin))
        return False

    def left_out(self, file: str, lines: LeftOut) -> None:
        self._person.print(f"{file}: {unrun(self._monitor, lines)}")


def failure(origin: Origin) -> str:
    """Return a message that names the failing line."""
    return f"{origin}: failed: {without_secrets(origin.reading)}"


def unrun(monitor: LineRunner, lines: LeftOut) -> str:
    """Return a message that a transcript's lines without a prompt were not run."""
    return lines.tell(str(without_secrets(monitor.read(lines.line))))


@dataclass(frozen=True, slots=True)
class Script:
    """Lines to run, from a text or an open file. ``paths``: see Origin."""

    name: str
    source: str | Stream
    paths: tuple[str, ...] = ()
    number: int | None = None
    """The line number of all its lines, if lines are not counted."""


async def run_script(monitor: LineRunner, script: Script, person: Person, report: Report) -> bool:
    """Run a script's lines until the end, ``quit``, or a failing line after which ``report`` stops.

    Returns False only if ``report`` has stopped it. A line from a pipe runs as soon as it arrives. Text with
    prompts is a transcript, and only its lines with a prompt are run. In a text or file, one prompt anywhere
    makes the whole a transcript; in a pipe, it makes a transcript of the lines of the same read and of all
    later lines. Raises OSError if reading fails, HxError if a table can't be read.
    """
    reader = LineReader()
    source = script.source
    lines = _lines_of_text(source, reader) if isinstance(source, str) else _lines_of_stream(source, reader)
    clock = asyncio.get_running_loop().time
    turn_end = clock() + TURN_SECONDS
    try:
        async for number, line in lines:
            reading = monitor.read(line)
            if reading.does_nothing:
                continue
            if len(script.paths) < 2:
                person.history.append(line)
            origin = Origin(script.name, script.number or number, reading, report, script.paths)
            report.begin(origin)
            if clock() > turn_end:
                await asyncio.sleep(0)  # other tasks' turn: lines that don't wait would keep the loop
                turn_end = clock() + TURN_SECONDS
                if monitor.quitting:
                    break
            if not report.end(origin, await monitor.run(reading, person, origin)):
                return False
            if monitor.quitting:
                break
    finally:
        if reader.left_out.count:
            report.left_out(script.name, reader.left_out)
    return True


async def include(monitor: LineRunner, person: Person, name: str, origin: Origin | None) -> None:
    """Run the lines of a file; a relative name is relative to the folder of ``origin``'s file.

    Raises LineError if the file can't be read or is already running, or if a line fails.
    """
    paths = origin.paths if origin is not None else ()
    shown = os.path.join(os.path.dirname(origin.file), name) if origin is not None and paths else name
    try:
        path = await asyncio.to_thread(os.path.realpath, shown)
        if path in paths:
            raise LineError(f"include: '{name}' is already running: a file can't include itself")
        if len(paths) == INCLUDES_MAX:
            raise LineError(f"include: '{name}' is nested too deeply: at most {INCLUDES_MAX} includes")
        text = await asyncio.to_thread(_read_file, path)
    except (OSError, ValueError) as error:
        raise LineError(f"include: {name}: {reason(error)}") from error
    report = origin.report if origin is not None else PersonReport(monitor, person)
    if not paths:
        paths = ("",)  # a typed line is not in a file
    if not await run_script(monitor, Script(shown, text, (*paths, path)), person, report):
        raise InnerLineError("")


def _read_file(path: str) -> str:
    # O_NONBLOCK: do not wait for the writer of a FIFO
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        data = file.read(SCRIPT_BYTES_MAX + 1)
    if len(data) > SCRIPT_BYTES_MAX:
        raise OSError(errno.EFBIG, f"it is longer than {human_size(SCRIPT_BYTES_MAX)}")
    return _decode(data)


async def _lines_of_text(text: str, reader: LineReader) -> AsyncIterator[tuple[int, str]]:
    for numbered in reader.read(text):
        yield numbered


async def _lines_of_stream(stream: Stream, reader: LineReader) -> AsyncIterator[tuple[int, str]]:
    descriptor = stream.fileno()
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        pieces = []
        while piece := await asyncio.to_thread(os.read, descriptor, MIB):
            pieces.append(piece)
            if len(pieces) * MIB > SCRIPT_BYTES_MAX:
                raise OSError(errno.EFBIG, f"it is longer than {human_size(SCRIPT_BYTES_MAX)}")
        for numbered in reader.read(_decode(b"".join(pieces))):
            yield numbered
        return
    pending = b""
    while piece := await _read_when_ready(descriptor):
        whole, newline, pending = (pending + piece).rpartition(b"\n")
        if len(pending) > LINE_BYTES_MAX:
            raise OSError(f"line {reader.lines_read + 1} is longer than {human_size(LINE_BYTES_MAX)}")
        for numbered in reader.read(_decode(whole + newline)):
            yield numbered
    for numbered in reader.read(_decode(pending)):
        yield numbered


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


async def _read_when_ready(descriptor: int) -> bytes:
    """Read available data. Wait on the loop, not in a thread: an idle pipe must not delay the exit."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_reader(descriptor, wake)
    except PermissionError:
        return _read(descriptor)  # epoll refuses files that never block, such as /dev/null
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
    return _read(descriptor)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, READ_BYTES)
    except OSError as error:
        # EIO: the terminal has hung up. EBADF: nohup has replaced it by a write-only file. It is the end.
        if error.errno in (errno.EIO, errno.EBADF):
            return b""
        raise
