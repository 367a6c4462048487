"""Other programs on the console's terminal for a while: a pager, an editor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import tempfile
import termios
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from prompt_toolkit.application import Application, in_terminal
from prompt_toolkit.application.current import set_app
from prompt_toolkit.output import Output

from qmon.console.screen import Screen
from qmon.console.terminal import TerminalOutput
from qmon.errors import QmonError, UsageError, reason

DEFAULT_PAGER = "less -FRX"
_EDITORS = ("sensible-editor", "editor", "vi", "nano")
"""Tried in this order where nobody has chosen one."""

_OFF = (termios.VSUSP, termios.VQUIT)
"""Keys that would stop or end qmon along with the program: its drives are in use by guests."""


def pager_command(environ: Mapping[str, str] = os.environ) -> list[str] | None:
    """The words of ``$PAGER``; None where nothing is to be paged: it is empty, ``cat``, or can't be read."""
    words = _words(environ.get("PAGER", DEFAULT_PAGER))
    return None if not words or Path(words[0]).name == "cat" else words


def editor_command(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The words of ``$VISUAL`` or ``$EDITOR``, or an editor that is there. Raises UsageError."""
    for name in ("VISUAL", "EDITOR"):
        if words := _words(environ.get(name, "")):
            return words
    for name in _EDITORS:
        if shutil.which(name) is not None:
            return [name]
    raise UsageError("There is no editor: name one in $EDITOR")


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []  # an open quote: nothing that could be started


class Programs:
    """Runs one program after another on the terminal; what is written meanwhile is shown after it."""

    def __init__(self, application: Application[None], screen: Screen) -> None:
        self._application = application
        self._screen = screen
        self._process: asyncio.subprocess.Process | None = None
        self._is_pager = False
        self._is_called_back = False

    def interrupt(self) -> bool:
        """Ctrl-C where a program has the terminal: it ends a pager. False where none has."""
        if self._process is not None and self._is_pager:
            self.close()
        return self._process is not None

    def close(self) -> None:
        """Have the program that has the terminal give it back."""
        if self._process is not None:
            self._is_called_back = True
            _end(self._process)

    async def page(self, words: list[str], text: str) -> None:
        """Have a pager show a text. Raises OSError when it can't be started, and QmonError when it failed."""
        status = await self._run(words, text + "\n")
        if status > 0 and not self._is_called_back:
            raise QmonError(f"{words[0]}: exit status {status}")

    async def edit(self, words: list[str], text: str) -> str:
        """Have an editor change a text. Raises OSError, and QmonError when it says that it failed."""
        with tempfile.TemporaryDirectory(prefix="qmon-") as folder:
            path = Path(folder, "line.hmp")
            await asyncio.to_thread(_write, path, text + "\n")
            status = await self._run([*words, str(path)], None)
            if status:
                raise QmonError(f"{words[0]}: exit status {status}")
            return (await asyncio.to_thread(_read, path)).rstrip("\n")

    async def _run(self, words: list[str], text: str | None) -> int:
        """Run a program, with a text on its standard input or with the terminal; return its exit status."""
        async with self._lending():
            stdin = None if text is None else asyncio.subprocess.PIPE
            process = self._process = await asyncio.create_subprocess_exec(*words, stdin=stdin)
            self._is_pager, self._is_called_back = text is not None, False
            try:
                await process.communicate(None if text is None else text.encode(errors="replace"))
            finally:
                if process.returncode is None:
                    _end(process)
                    await process.wait()
                self._process = None
        assert process.returncode is not None
        return process.returncode

    @contextlib.asynccontextmanager
    async def _lending(self) -> AsyncIterator[None]:
        self._screen.hold()
        try:
            with set_app(self._application):
                async with in_terminal():
                    with _usual_mode(self._application.output, self._application.input.fileno()):
                        yield
        finally:
            self._screen.resume()


def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself
        process.terminate()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


@contextlib.contextmanager
def _usual_mode(output: Output, descriptor: int) -> Iterator[None]:
    """The terminal as programs expect it, but for the keys that would stop qmon, too."""
    if isinstance(output, TerminalOutput):
        output.leave()
    attributes = termios.tcgetattr(descriptor)
    characters = attributes[6]
    for number in _OFF:
        characters[number] = b"\0"
    termios.tcsetattr(descriptor, termios.TCSADRAIN, attributes)
    # a program that stops its whole process group by itself, as editors do, must not stop qmon
    before = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)


def why(error: OSError | QmonError, words: list[str]) -> str:
    """What to tell of a program that could not be run."""
    return str(error) if isinstance(error, QmonError) else f"{words[0]}: {reason(error)}"
