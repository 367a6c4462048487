"""What the keys do with the line being typed: run it, edit it, put pasted text into it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from prompt_toolkit.document import Document

from qmon.console.display import Display
from qmon.console.lines import Lines
from qmon.console.paste import as_lines, read_burst, without_prompt
from qmon.console.programs import Programs, editor_command, why
from qmon.console.prompt import Prompt
from qmon.errors import QmonError
from qmon.hmp.ending import broken_by_leaving
from qmon.hmp.monitor import Monitor
from qmon.hmp.pasting.doctor import Pasted, read_pasted
from qmon.hmp.scripts import unrun
from qmon.qmp.target import MIGRATE_DISKS

LOOK_SECONDS = 2.0
"""How long Ctrl-D waits for a QEMU's answer whether a migration is under way."""


class Actions:
    """The actions on the line being typed that keys can call."""

    def __init__(
        self,
        monitor: Monitor,
        prompt: Prompt,
        display: Display,
        lines: Lines,
        programs: Programs,
        begin: Callable[[Coroutine[None, None, None]], None],
        leave: Callable[[], None] | None = None,
    ) -> None:
        """``begin`` runs a coroutine in the background; ``leave`` ends the console without ``quit``."""
        self._monitor = monitor
        self._buffer = prompt.buffer
        self._display = display
        self._lines = lines
        self._programs = programs
        self._begin = begin
        self._leave = leave

    def enter(self) -> None:
        """Run the line being typed, after the running command and the waiting lines."""
        lines = [without_prompt(line) for line in self._buffer.text.split("\n")]
        self._lines.tail = ""
        self._lines.submit(lines, Document(), may_page=len(lines) == 1 and not self._lines.is_running)

    def end_of_input(self) -> None:
        """Quit, or leave a machine that goes on: nothing more will be typed."""
        if self._leave is None:
            self._lines.submit(["quit"], Document())
        elif MIGRATE_DISKS in self._monitor.target.commands():
            self._begin(self._leave_or_ask(self._leave))
        else:
            self._leave()

    async def _leave_or_ask(self, leave: Callable[[], None]) -> None:
        """Leave; first let ``exit`` ask if a migration needs this console."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                is_needed = bool(await broken_by_leaving(self._monitor.target))
        except (QmonError, TimeoutError):
            is_needed = False
        if is_needed:
            self._lines.stop_and_run("exit")
        else:
            leave()

    def run_line(self, line: str) -> None:
        """Run a line that is bound to a key, and keep the line being typed."""
        self._lines.submit([line], self._buffer.document)

    def paste(self, text: str) -> None:
        """Take a pasted text, unchanged."""
        before, after = self._buffer.document.text_before_cursor, self._buffer.document.text_after_cursor
        pasted = read_pasted(self._monitor.tables, as_lines(text), before, after)
        if pasted.lines:
            self._take(
                [pasted] if pasted.is_changed else pasted.lines, pasted.tail, after if pasted.joins else None
            )
            return
        if pasted.left_out:
            self._display.notify(self._lines.summary(pasted))
        self._buffer.insert_text(pasted.tail)

    def burst(self, text: str) -> None:
        """Take a text that arrived at once, unchanged: it was pasted, or a program typed it."""
        before, after = self._buffer.document.text_before_cursor, self._buffer.document.text_after_cursor
        burst = read_burst(text)
        if burst.left_out.count:
            self._display.tell(unrun(self._monitor, burst.left_out))
        if not burst.lines:
            self._buffer.insert_text(burst.tail)
            return
        if not burst.transcript:
            burst.lines[0] = before + burst.lines[0]
        self._take(burst.lines, burst.tail, None if burst.transcript else after)

    def _take(self, lines: Sequence[str | Pasted], tail: str, after: str | None) -> None:
        """Run lines. ``tail`` goes to the prompt, before ``after``; if that is None, instead of its text."""
        if after is not None:
            typed = Document(tail + after, len(tail))
        else:
            typed = Document(tail) if tail else self._buffer.document
        self._lines.tail = tail and typed.text
        self._lines.submit(lines, typed)

    def edit(self) -> None:
        """Open the line in an editor; put the result on the prompt, to be run by Enter."""
        self._begin(self._edit())

    async def _edit(self) -> None:
        words = ["editor"]
        try:
            words = editor_command()
            text = await self._programs.edit(words, self._buffer.text)
        except (QmonError, OSError) as error:
            self._display.tell(f"The line was not changed: {why(error, words)}")
            return
        text = as_lines(text)
        self._buffer.document = Document(text, len(text))
        self._display.screen.refresh()
