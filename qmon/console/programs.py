"""Runs other programs on the console's terminal: a pager, an editor."""

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
"""Tried in this order when neither $VISUAL nor $EDITOR is set."""

_OFF = (termios.VSUSP, termios.VQUIT)
"""Keys that would stop or end qmon together with the program, while guests use its drives."""


def pager_command(environ: Mapping[str, str] = os.environ) -> list[str] | None:
    """Return the words of ``$PAGER``, or None to page nothing: it is empty, ``cat``, or has an open quote."""
    words = _words(environ.get("PAGER", DEFAULT_PAGER))
    return None if not words or Path(words[0]).name == "cat" else words


def editor_command(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the words of ``$VISUAL`` or ``$EDITOR``, or an installed editor. Raises UsageError."""
    for name in ("VISUAL", "EDITOR"):
        if words := _words(environ.get(name, "")):
            return words
    for name in _EDITORS:
        if shutil.which(name) is not None:
            return [name]
    raise UsageError("No editor found: install one, or set $EDITOR to its path")


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []  # an open quote


class Programs:
    """Runs programs on the terminal, one at a time. The console's own output waits until they end."""

    def __init__(self, application: Application[None], screen: Screen) -> None:
        self._application = application
        self._screen = screen
        self._process: asyncio.subprocess.Process | None = None
        self._is_pager = False
        self._is_called_back = False

    def interrupt(self) -> bool:
        """Handle Ctrl-C: end a pager that has the terminal. Return whether a program has the terminal."""
        if self._process is not None and self._is_pager:
            self.close()
        return self._process is not None

    def close(self) -> None:
        """End the program that has the terminal, if one has it."""
        if self._process is not None:
            self._is_called_back = True
            _end(self._process)

    async def page(self, words: list[str], text: str) -> None:
        """Show a text in a pager. Raises OSError when it can't be started, QmonError when it fails."""
        status = await self._run(words, text + "\n")
        if status > 0 and not self._is_called_back:
            raise QmonError(f"{words[0]}: exit status {status}")

    async def edit(self, words: list[str], text: str) -> str:
        """Return a text as changed in an editor. Raises OSError, or QmonError when the editor fails."""
        with tempfile.TemporaryDirectory(prefix="qmon-") as folder:
            path = Path(folder, "line.hmp")
            await asyncio.to_thread(_write, path, text + "\n")
            status = await self._run([*words, str(path)], None)
            if status:
                raise QmonError(f"{words[0]}: exit status {status}")
            return (await asyncio.to_thread(_read, path)).rstrip("\n")

    async def _run(self, words: list[str], text: str | None) -> int:
        """Run a program and return its exit status. Its stdin is the text, or the terminal for None."""
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
    with contextlib.suppress(ProcessLookupError):  # it has already ended
        process.terminate()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


@contextlib.contextmanager
def _usual_mode(output: Output, descriptor: int) -> Iterator[None]:
    """Set the terminal as programs expect it, except that Ctrl-Z and Ctrl-\\ do nothing."""
    if isinstance(output, TerminalOutput):
        output.leave()
    attributes = termios.tcgetattr(descriptor)
    characters = attributes[6]
    for number in _OFF:
        characters[number] = b"\0"
    termios.tcsetattr(descriptor, termios.TCSADRAIN, attributes)
    # an editor stops its whole process group on Ctrl-Z; that must not stop qmon
    before = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)


def why(error: OSError | QmonError, words: list[str]) -> str:
    """Say why a program could not be run."""
    return str(error) if isinstance(error, QmonError) else f"{words[0]}: {reason(error)}"
