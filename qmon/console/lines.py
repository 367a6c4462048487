"""Runs lines one after another; asks before the lines of a text that had to be changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence

from prompt_toolkit.document import Document

from qmon.console.announcer import Announcer
from qmon.console.consent import question, summary
from qmon.console.display import Display
from qmon.console.ending import Ending
from qmon.console.person import TerminalPerson
from qmon.console.prompt import Prompt
from qmon.console.runner import Runner
from qmon.console.waiting import Waiting, not_run
from qmon.hmp.line.secrets import without_secrets
from qmon.hmp.line.transcript import does_nothing
from qmon.hmp.monitor import Monitor
from qmon.hmp.pasting.doctor import Pasted

_logger = logging.getLogger(__name__)

_LAST_WORDS_SECONDS = 1.0
"""How long a command, such as ``quit`` itself, may still run when the machine has quit."""


class Lines:
    """Runs lines one at a time in order; when one fails, the waiting ones are dropped."""

    def __init__(
        self,
        monitor: Monitor,
        prompt: Prompt,
        display: Display,
        person: TerminalPerson,
        announcer: Announcer,
        runner: Runner,
        waiting: Waiting,
        ending: Ending,
    ) -> None:
        self.tail = ""
        """A pasted text's unfinished last line, as long as it is at the prompt."""
        self._monitor = monitor
        self._prompt = prompt
        self._display = display
        self._person = person
        self._announcer = announcer
        self._runner = runner
        self._waiting = waiting
        self._ending = ending
        self._running: asyncio.Task[bool] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a command runs, or a question about a pasted text waits."""
        return self._running is not None

    def submit(self, lines: Sequence[str | Pasted], typed: Document, *, may_page: bool = False) -> None:
        """Run lines after those that wait; ``typed`` is what is at the prompt from now on.

        With ``may_page`` the answer of a line that runs at once may go to the pager.
        """
        self._prompt.buffer.reset(typed)
        self._display.application.vi_state.reset()
        self._waiting.add(lines)
        self._next(may_page=may_page)

    def interrupt(self) -> None:
        """Stop the running command; if none runs, clear the line being typed."""
        if self._running is not None:
            self._person.end_output()
            self._display.notify("^C")
            self._running.cancel()
        else:
            self._prompt.buffer.reset()
            self._display.screen.refresh()

    def quit(self) -> None:
        """Stop the running command, drop the waiting lines, run ``quit``."""
        self.stop_and_run("quit")

    def stop_and_run(self, line: str) -> None:
        """Stop the running command, drop the waiting lines, run a line."""
        if self._running is None:
            self.submit([line], self._prompt.buffer.document)
            return
        self._running.cancel()
        # runs after _finish, which drops the waiting lines
        self._running.add_done_callback(lambda _: self.submit([line], self._prompt.buffer.document))

    async def settle(self) -> None:
        """Wait for the running command to end, then drop the waiting lines. The console's end has begun."""
        running = self._running
        if running is not None:
            await asyncio.wait([running], timeout=_LAST_WORDS_SECONDS)
            self._person.silent = True
            running.cancel()
            await asyncio.wait([running])
        self._abandon()

    async def close(self) -> None:
        """End the running command, if ``settle`` has not."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def summary(self, pasted: Pasted) -> str:
        """Return which lines of a pasted text run, and which are left out."""
        return summary(pasted, self._monitor.read, self._display.size.columns)

    def _next(self, *, may_page: bool = False) -> None:
        """Start the next waiting line unless a command runs; if no line waits, show the prompt."""
        while self._running is None and self._waiting and not self._ending.has_begun:
            line = self._waiting.next()
            if isinstance(line, Pasted):
                self._start(self._consent(line))
                break
            self._display.screen.echo(line)
            reading = self._monitor.read(line)
            if not reading.does_nothing:
                self._person.history.append(line)
                secret = bool(without_secrets(reading).secrets)
                self._prompt.history.append_string(line, is_secret=secret)
                self._announcer.hold()
                self._start(self._runner.run(reading, may_page=may_page))
        if self._running is None and not self._ending.has_begun:
            self._prompt.buffer.reset(self._prompt.buffer.document)  # so that it sees the new history entries
            self._display.status.busy = False
        self._display.screen.refresh()

    def _start(self, work: Coroutine[None, None, bool]) -> None:
        self._display.status.busy = True
        self._running = asyncio.create_task(work)
        self._running.add_done_callback(self._finish)

    async def _consent(self, pasted: Pasted) -> bool:
        """Show a pasted text's lines and ask whether to run them; without a yes they are abandoned."""
        try:
            self._display.notify(self.summary(pasted))
            return await self._person.ask(question(pasted))
        finally:
            self._waiting.add_first(pasted.lines)

    def _finish(self, task: asyncio.Task[bool]) -> None:
        self._running = None
        if task.cancelled():
            good = False
        elif error := task.exception():
            good = False
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{self._person.history[-1:]} failed", "exception": error, "task": task}
            )
        else:
            good = task.result()
        if self._monitor.quitting:
            self._ending.machine_has_quit.set()
        self._announcer.release(told=not task.cancelled() and (self._person.has_seen_bar or not good))
        self._person.end_command()
        if not good:
            self._abandon()
        self._next()

    def _abandon(self) -> None:
        """Drop the waiting lines and a paste's unfinished last line, and say how many they were."""
        count = self._waiting.abandon()
        if self.tail and self._prompt.buffer.text == self.tail:
            count += not does_nothing(self.tail)
            self._prompt.buffer.reset()
        self.tail = ""
        if count:
            self._display.notify(not_run(count))
            if self._ending.terminal_has_gone.is_set():
                _logger.warning("the terminal has gone: %s", not_run(count))
