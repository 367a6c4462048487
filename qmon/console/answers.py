"""Decides how a command's answer is shown: line by line, or, when longer than the screen, in a pager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prompt_toolkit.utils import get_cwidth

HOLD_SECONDS = 0.2
"""How long an answer is held back after its first line, so that a complete one can go to the pager."""

_ROWS_BELOW = 2
"""Rows that the prompt and the toolbar take."""


def rows_of(text: str, columns: int) -> int:
    """Return how many rows a text takes on a terminal of ``columns`` columns."""
    return sum(max(1, -(-get_cwidth(line) // columns)) for line in text.split("\n"))


class Answer:
    """One command's answer: held back for ``HOLD_SECONDS``, then shown line by line as it arrives."""

    def __init__(self, show: Callable[[str], None], whole: bool) -> None:
        """``whole``: whether to hold the answer back; if not, each line is shown at once."""
        self._show = show
        self._lines: list[str] | None = [] if whole else None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, text: str) -> None:
        if self._lines is None:
            self._show(text)
            return
        self._lines.append(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HOLD_SECONDS, self.release)

    def release(self) -> None:
        """Show the held lines, and every later line at once."""
        if self._timer is not None:
            self._timer.cancel()
        lines, self._lines = self._lines, None
        if lines:
            self._show("\n".join(lines))

    def long_text(self, rows: int, columns: int) -> str | None:
        """Return the held text if it does not fit on a screen above the prompt, else None."""
        text = "\n".join(self._lines or ())
        return text if rows_of(text, columns) > rows - _ROWS_BELOW else None

    def keep(self) -> None:
        """Hold the answer without a time limit, until ``drop`` or ``release``."""
        if self._timer is not None:
            self._timer.cancel()

    def drop(self) -> None:
        """Forget the held lines: the pager has shown them."""
        self._lines = []
