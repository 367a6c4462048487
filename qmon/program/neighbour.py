"""The running qmon that ``-connect NAME`` leads to, and its folder: its lines name files there."""

from __future__ import annotations

import os
from pathlib import Path

from qmon.errors import reason
from qmon.host.running import Running, find_running
from qmon.notation.plain_text import one_line


class Neighbour:
    """Finds the qmon, anew for each connection."""

    def __init__(self, state_folder: Path) -> None:
        self._state_folder = state_folder
        self._running: Running | None = None

    def find(self, name: str) -> str:
        """Return the path of its socket. May block. Raises QmonError."""
        self._running = find_running(self._state_folder, name)
        return self._running.socket

    @property
    def where(self) -> str:
        """Say where its files are, "" if that is this process's folder or is not known."""
        if self._running is None or self._running.folder == os.getcwd():
            return ""
        return one_line(f"names of files belong to the folder {self._running.folder}")

    def enter(self) -> str:
        """Make its folder this process's, so that a name means one file on both sides; say what has changed.

        Returns "" if nothing has.
        """
        where = self.where
        if where and self._running is not None:
            try:
                os.chdir(self._running.folder)
            except OSError as error:
                where += f", which can't be entered: {reason(error)}: TAB does not know them"
        return where
