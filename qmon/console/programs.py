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
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from prompt_toolkit.application import Application, in_terminal
from prompt_toolkit.application.current import set_app

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
        self._lent = asyncio.Lock()
        self._usual = termios.tcgetattr(application.input.fileno())
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
        async with self._lending(_OFF):
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

    def lent_to_shell(self) -> AbstractAsyncContextManager[None]:
        """Leave the terminal as the console found it; it is the console's again at the end."""
        return self._lending(())

    @contextlib.asynccontextmanager
    async def _lending(self, off: Sequence[int]) -> AsyncIterator[None]:
        """Set the terminal as programs expect it, except that the keys ``off`` do nothing."""
        async with self._lent:
            self._screen.hold()
            try:
                with set_app(self._application):
                    async with in_terminal():
                        with self._usual_mode(off):
                            yield
            finally:
                self._screen.resume()

    @contextlib.contextmanager
    def _usual_mode(self, off: Sequence[int]) -> Iterator[None]:
        if isinstance(self._application.output, TerminalOutput):
            self._application.output.leave()
        attributes = [*self._usual[:6], [*self._usual[6]]]
        for number in off:
            attributes[6][number] = b"\0"
        termios.tcsetattr(self._application.input.fileno(), termios.TCSADRAIN, attributes)
        # an editor stops its whole process group on Ctrl-Z; that must not stop qmon
        before = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGTSTP, before)


def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has already ended
        process.terminate()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def why(error: OSError | QmonError, words: list[str]) -> str:
    """Say why a program could not be run."""
    return str(error) if isinstance(error, QmonError) else f"{words[0]}: {reason(error)}"
