"""Paints an answer over the one before it, on a terminal that can be redrawn."""

from __future__ import annotations

from prompt_toolkit.output import Output

from qmon.console.picture import fit
from qmon.console.screen import Screen
from qmon.console.view import Status


class Painter:
    """A Picture (``qmon.hmp.person``) whose last state stays on the screen at the end of ``with``."""

    def __init__(self, status: Status, screen: Screen, output: Output) -> None:
        self._status = status
        self._screen = screen
        self._output = output
        self._printed: list[str] = []
        self._shown = ""
        self.is_over = False

    def add(self, text: str) -> None:
        """Add lines to the answer that is shown next."""
        self._printed.append(text)

    def paint(self) -> None:
        self._shown = "\n".join(self._printed)
        self._printed.clear()
        if not self.is_over:
            self._status.picture = self._shown
            self._screen.refresh()

    def close(self) -> None:
        """End the picture; a second call does nothing."""
        if self.is_over:
            return
        self.is_over = True
        self._status.picture = ""
        if self._shown:
            size = self._output.get_size()
            self._screen.write(fit(self._shown, size.rows, size.columns) + "\n")

    def __enter__(self) -> Painter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
