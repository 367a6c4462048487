"""The command history, kept between runs: one line of text for each command."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prompt_toolkit.history import History

from qmon.errors import reason
from qmon.host.paths import state_folder

_TAIL_BYTES = 256 << 10
"""How much of the file's end is read. A bound keeps the start fast after years of use."""


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the file ``history`` in the state folder."""
    return state_folder(environ) / "history"


class CommandHistory(History):
    """The history of a prompt, in a file that only its owner can read.

    Several consoles may share it: each appends whole lines. When the file can't be used, ``complain`` is
    called once and the history is kept in memory only.
    """

    def __init__(self, path: Path | None, complain: Callable[[str], None]) -> None:
        super().__init__()
        self._path = path
        self._complain = complain

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
        return [line for line in reversed(lines[1:] if size > _TAIL_BYTES else lines) if line]

    def append_string(self, string: str, is_secret: bool = False) -> None:
        """Add a line, unless it repeats the last one; a secret line is kept in memory only."""
        if self._loaded_strings[:1] != [string]:
            self._loaded_strings.insert(0, string)
            if not is_secret:
                self.store_string(string)

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
