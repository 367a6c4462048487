"""Completion at the prompt: offers what ``qmon.hmp.editing.completion`` suggests, with descriptions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from qmon.errors import QmonError
from qmon.hmp.editing.completion import complete
from qmon.hmp.monitor import Monitor
from qmon.notation.plain_text import one_line


class HmpCompleter(Completer):
    """Completes the line before the cursor. On an empty line it offers nothing unless asked by TAB."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        return ()  # the target may be remote, so only the asynchronous form can ask it

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        before = document.current_line_before_cursor
        if complete_event.text_inserted and not before.strip():
            return
        try:
            suggestions = await complete(self._monitor, before, tasks=True)
        except QmonError:
            return  # the target can't be asked, so offer nothing; running the line shows the error
        for suggestion in suggestions:
            yield Completion(
                suggestion.text,
                start_position=suggestion.start - len(before),
                display=one_line(suggestion.text),
                display_meta=one_line(suggestion.meaning),
            )
