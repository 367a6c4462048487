"""The line being typed: its text and cursor, what it means so far, and the lines before it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from prompt_toolkit.buffer import Buffer

from qmon.console.completer import HmpCompleter
from qmon.console.history import CommandHistory, Suggestions
from qmon.console.lexer import prompt_lexer
from qmon.console.settings import Settings
from qmon.hmp.editing.hint import hint
from qmon.hmp.line.reading import Reading, read_typed
from qmon.hmp.monitor import Monitor


class Prompt:
    """The buffer that is edited at the prompt, with its history, its lexer and its hint."""

    def __init__(
        self, monitor: Monitor, history_path: Path | None, complain: Callable[[str], None], settings: Settings
    ) -> None:
        """With ``history_path`` None no history is saved; ``complain`` is called if it can't be."""
        self.history = CommandHistory(history_path, complain)
        self.buffer = Buffer(
            history=self.history,
            completer=HmpCompleter(monitor),
            complete_while_typing=settings.completion,
            auto_suggest=Suggestions(self.history) if settings.suggestions else None,
            multiline=False,
        )
        # the lexer, the hint and the toolbar use the same line, and so does its echo a moment later
        read = lru_cache(maxsize=2)(read_typed)

        def read_now(text: str) -> Reading:
            return read(monitor.tables, text)  # the tables change if the target becomes another one

        self._read_typed = read_now
        self.lexer = prompt_lexer(self._read_typed)

    @property
    def reading(self) -> Reading:
        """The line, parsed."""
        return self._read_typed(self.buffer.document.current_line)

    def hint(self) -> str:
        """Return the arguments that may follow."""
        return hint(self.reading)
