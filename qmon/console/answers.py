"""What a command answers, kept back for a moment: an answer longer than the screen goes to a pager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prompt_toolkit.utils import get_cwidth

HOLD_SECONDS = 0.2
"""So long after its first line an answer is waited for as a whole; then it is shown as it comes."""

_ROWS_BELOW = 2
"""The prompt and the row below it."""


def rows_of(text: str, columns: int) -> int:
    """How many rows a text takes on a terminal."""
    return sum(max(1, -(-get_cwidth(line) // columns)) for line in text.split("\n"))


class Answer:
    """One command's answer. It is shown line by line, or as a whole when it came at once."""

    def __init__(self, show: Callable[[str], None], whole: bool) -> None:
        """``whole``: whether it is to be kept back at all."""
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
        """Show what is kept back, and all that comes at once."""
        if self._timer is not None:
            self._timer.cancel()
        lines, self._lines = self._lines, None
        if lines:
            self._show("\n".join(lines))

    def long_text(self, rows: int, columns: int) -> str | None:
        """All of it, where it is kept back and would not fit a screen with the prompt below it."""
        text = "\n".join(self._lines or ())
        return text if rows_of(text, columns) > rows - _ROWS_BELOW else None

    def keep(self) -> None:
        """Keep it back until it is dropped or released, however long that takes."""
        if self._timer is not None:
            self._timer.cancel()

    def drop(self) -> None:
        """Forget what is kept back: it was shown otherwise."""
        self._lines = []
