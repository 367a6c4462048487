"""The command history, kept between runs: one line of text for each command, and a comment if it failed."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prompt_toolkit.auto_suggest import AutoSuggest, Suggestion
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.history import History

from qmon.errors import reason
from qmon.host.paths import state_folder

_TAIL_BYTES = 256 << 10
"""How much of the file's end is read. A bound keeps the start fast after years of use."""

_FAILED = "# failed: "
"""The beginning of a comment in the file: the line after it has failed since it was last stored."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9._+-]")
_NAME_MOST = 200
"""Characters of a machine's name in a file name, for which file systems allow 255."""


def default_path(machine: str = "", environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of ``history-MACHINE`` in the state folder, or of ``history`` for no name.

    Bytes that are not safe in a file name are written ``%XX``.
    """
    data = machine.encode(errors="surrogateescape")
    name = _UNSAFE.sub(lambda match: b"%%%02X" % ord(match[0]), data).decode()
    if len(name) > _NAME_MOST:
        name = f"{name[: _NAME_MOST // 2]}-{hashlib.sha256(data).hexdigest()[:32]}"
    return state_folder(environ) / (f"history-{name}" if name else "history")


class CommandHistory(History):
    """The history of a prompt, in a file that only its owner can read.

    Several consoles may share it: each appends whole lines. When the file can't be used, ``complain`` is
    called once and the history is kept in memory only.
    """

    def __init__(self, path: Path | None, complain: Callable[[str], None]) -> None:
        super().__init__()
        self._path = path
        self._complain = complain
        self.failed: set[str] = set()
        """The lines that failed when they last ran. They can be recalled, but are not suggested."""

    def prepare(self) -> None:
        """Create the folder and the file if they are missing."""
        self._append("")

    def load_history_strings(self) -> Iterable[str]:
        """Yield the lines, newest first."""
        if self._path is None:
            return []
        try:
            with open(self._open(os.O_RDONLY), "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                data = file.read()
        except OSError as error:
            self._give_up(error)
            return []
        lines = data.decode(errors="replace").split("\n")
        return self._without_marks(lines[1:] if size > _TAIL_BYTES else lines)

    def _without_marks(self, lines: list[str]) -> list[str]:
        """Return the commands of a file's lines, newest first; learn which of them failed."""
        commands = []
        for line in filter(None, lines):
            if line.startswith(_FAILED):
                self.failed.add(line.removeprefix(_FAILED))
            else:
                self.failed.discard(line)
                commands.append(line)
        return commands[::-1]

    def append_string(self, string: str, is_secret: bool = False) -> None:
        """Add a line, unless it repeats the last one; a secret line is kept in memory only."""
        if self._loaded_strings[:1] != [string]:
            self._loaded_strings.insert(0, string)
            if not is_secret:
                self.store_string(string)

    def note_result(self, string: str, *, failed: bool, is_secret: bool = False) -> None:
        """Note whether a line that was appended has failed."""
        if not failed and string not in self.failed:
            return
        if failed:
            self.failed.add(string)
        else:
            self.failed.remove(string)
        if not is_secret:
            self.store_string(_FAILED + string if failed else string)

    def store_string(self, string: str) -> None:
        self._append(string + "\n")

    def _append(self, text: str) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = self._open(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                os.write(fd, text.encode(errors="replace"))
            finally:
                os.close(fd)
        except OSError as error:
            self._give_up(error)

    def _open(self, flags: int) -> int:
        """Raises OSError, also for a FIFO or device, which could block the console."""
        assert self._path is not None
        fd = os.open(self._path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "it is not a regular file")
        return fd

    def _give_up(self, error: OSError) -> None:
        self._complain(f"The history is not saved: {self._path}: {reason(error)}")
        self._path = None


class Suggestions(AutoSuggest):
    """Suggests the newest line that begins as the typed one does and has not failed."""

    def __init__(self, history: CommandHistory) -> None:
        self._history = history

    def get_suggestion(self, buffer: Buffer, document: Document) -> Suggestion | None:
        text = document.text
        if not text.strip():
            return None
        for line in reversed(self._history.get_strings()):
            if line.startswith(text) and line not in self._history.failed:
                return Suggestion(line[len(text) :])
        return None
