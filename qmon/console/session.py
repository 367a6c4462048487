"""The console: it owns the terminal and runs lines one after another."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Coroutine, Sequence
from functools import lru_cache, partial
from pathlib import Path

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.formatted_text import StyleAndTextTuples

from qmon.console.answers import Answer
from qmon.console.attention import Attention
from qmon.console.completer import HmpCompleter
from qmon.console.consent import question, summary
from qmon.console.history import CommandHistory, Suggestions
from qmon.console.keys import build_keys
from qmon.console.lexer import prompt_lexer
from qmon.console.notices import AT_ONCE, announce, migration_news, news
from qmon.console.painter import Painter
from qmon.console.paste import Waiting, as_lines, not_run, read_burst, without_prompt
from qmon.console.person import TerminalPerson
from qmon.console.programs import Programs, editor_command, pager_command, why
from qmon.console.progress import Bar
from qmon.console.screen import DrawnScreen, PlainScreen, Screen
from qmon.console.settings import Settings
from qmon.console.streams import stray_text_to
from qmon.console.style import build_style
from qmon.console.suspension import Shell, Suspension
from qmon.console.terminal import TerminalOutput, is_dumb, open_input, open_output
from qmon.console.toolbar import SEPARATOR, VI_MODES, Toolbar
from qmon.console.view import Status, build_application
from qmon.errors import QmonError
from qmon.hmp.editing.hint import hint
from qmon.hmp.editing.judge import complaint
from qmon.hmp.editing.nearest import nearest
from qmon.hmp.line.reading import Reading, read_typed
from qmon.hmp.line.secrets import without_secrets
from qmon.hmp.line.transcript import does_nothing
from qmon.hmp.monitor import Monitor
from qmon.hmp.pasting.doctor import Pasted, read_pasted
from qmon.hmp.person import Progress
from qmon.hmp.scripts import unrun
from qmon.notation.plain_text import plain
from qmon.qmp.target import Event

_logger = logging.getLogger(__name__)

_LAST_WORDS_SECONDS = 1.0
"""How long a command, such as ``quit`` itself, may still run when the machine has quit."""


class Console:
    """A monitor on the terminal that is stdin and stdout.

    One application owns the terminal in raw mode from start to end. It shows a prompt, or the running
    command's bar or question. Lines run one at a time in order; when one fails, the waiting ones are dropped.
    Call all methods on the loop's thread.
    """

    def __init__(
        self,
        monitor: Monitor,
        *,
        history_path: Path | None,
        quit_requested: asyncio.Event | None = None,
        greeting: str = "",
        quiet: bool = False,
        assume_yes: bool = False,
        settings: Settings = Settings(),  # noqa: B008 - it is frozen
        shell: Shell | None = None,
    ) -> None:
        """With ``history_path`` None no history is saved; setting ``quit_requested`` ends ``run``.

        ``quiet``: show no notices of events; ``assume_yes``: answer every question with yes.
        """
        self.lines: list[str] = []
        self._monitor = monitor
        self._quit_requested = quit_requested or asyncio.Event()
        self._greeting = greeting
        self.tells_events = not quiet
        self._assume_yes = assume_yes
        self._person = TerminalPerson(self)
        self._status = Status(busy=True)
        self._waiting = Waiting()
        self._tail = ""
        self._running: asyncio.Task[bool] | None = None
        self._answer: asyncio.Future[bool] | None = None
        self._ends: list[str] = []
        self._bar_shown = False
        self._picture: Painter | None = None
        self._ended = asyncio.Event()
        self._has_left = False
        self._background: set[asyncio.Task[None]] = set()
        self._typed = False
        self._is_consenting = False
        self._answer_shown = Answer(self.notify, whole=False)

        term = os.environ.get("TERM")
        plain = settings.plain or is_dumb(term)
        self._pages = None if plain else pager_command()
        self._history = CommandHistory(history_path, self.notify)
        self._buffer = Buffer(
            history=self._history,
            completer=HmpCompleter(monitor),
            complete_while_typing=settings.completion and not plain,
            auto_suggest=Suggestions(self._history) if settings.suggestions and not plain else None,
            multiline=False,
        )
        # the lexer, the hint and the toolbar use the same line, and so does its echo a moment later
        self._read_typed = lru_cache(maxsize=2)(partial(read_typed, monitor.tables))
        lexer = prompt_lexer(self._read_typed)
        keys = build_keys(self, self._buffer, self._is_asking, settings.bindings)
        output = open_output(sys.stdout, term, plain=plain)
        if settings.toolbar:
            self._status.toolbar = self._below
        self._status.hint = lambda: hint(self._reading)
        style = build_style(settings.colours)
        self._application = build_application(
            self._status, self._buffer, lexer, keys, open_input(), output, style
        )
        self.keys = settings.keys
        self._screen: Screen = (
            PlainScreen(sys.stdout, self._status, self._buffer)
            if plain
            else DrawnScreen(self._application, self._status, lexer, style)
        )
        self._attention = Attention(self._send, os.environ) if settings.bell and not plain else None
        self._programs = Programs(self._application, self._screen)
        self._suspension = Suspension(shell, self._programs, self.notify, self.leave)
        has_toolbar = settings.toolbar and not plain
        self._toolbar = Toolbar(monitor.target, self._screen.refresh) if has_toolbar else None

    async def run(self) -> int:
        """Serve the person until the machine quits, ``quit_requested`` is set or the terminal has gone.

        Returns the exit status, 0. The terminal's mode is restored, also when an exception is raised.
        """
        if self._greeting:
            self.notify(self._greeting)
        self._history.prepare()
        self._application.after_render += self._begin
        unsubscribe = self._monitor.target.subscribe(self._hear)
        owner = asyncio.create_task(
            self._application.run_async(set_exception_handler=False, handle_sigint=False)
        )
        if self._toolbar is not None:
            watcher = asyncio.create_task(self._toolbar.watch())
            self._background.add(watcher)
            watcher.add_done_callback(self._background.discard)
        ends = [asyncio.create_task(event.wait()) for event in (self._ended, self._quit_requested)]
        try:
            with stray_text_to(self.notify, lambda: self.tells_events):
                await asyncio.wait([owner, *ends], return_when=asyncio.FIRST_COMPLETED)
                self._has_left = self._has_left or owner.done()
                await self._settle()
                if self._application.is_running and not self._application.is_done:
                    self._application.exit()
                await asyncio.gather(owner, return_exceptions=True)
        finally:
            unsubscribe()
            tasks = [owner, *ends, *self._background, *([self._running] if self._running else [])]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._leave()
        error = owner.exception() if not owner.cancelled() else None
        if error is not None and not isinstance(error, EOFError):
            raise error
        return 0

    def _begin(self, _: object) -> None:
        """Show the first prompt. It must not be seen before raw mode is on: a paste would be echoed."""
        self._application.after_render -= self._begin
        if self._running is None:
            self._status.busy = False
            self._screen.refresh()

    def _below(self) -> StyleAndTextTuples:
        """Return the toolbar, the row below the prompt."""
        wrong = complaint(self._reading)
        fields = [f"! {wrong}"] if wrong else [f" {self._toolbar.text}"] if self._toolbar is not None else []
        if self._application.editing_mode is EditingMode.VI:
            fields.append(f"vi: {VI_MODES.get(self._application.vi_state.input_mode, 'insert')}")
        return [("class:toolbar.complaint" if wrong else "", SEPARATOR.join(fields))]

    @property
    def _reading(self) -> Reading:
        """The line being typed, parsed."""
        return self._read_typed(self._buffer.document.current_line)

    @property
    def keys(self) -> str:
        """The editing mode: ``emacs`` or ``vi``."""
        return self._application.editing_mode.value.lower()

    @keys.setter
    def keys(self, mode: str) -> None:
        self._application.editing_mode = EditingMode(mode.upper())

    def notify(self, text: str) -> None:
        """Show text above the line being typed; a newline is added."""
        self._screen.write(text + "\n")

    def _send(self, sequence: str) -> None:
        """Send a sequence that shows nothing, such as the bell, to the terminal."""
        self._application.output.write_raw(sequence)
        self._application.output.flush()

    def answer_text(self, text: str) -> None:
        """Show text that the running command prints; an answer longer than the screen goes to a pager."""
        picture = self._picture
        to = self._answer_shown if picture is None or picture.is_over else picture
        to.add(plain(text))

    async def ask(self, question: str) -> bool:
        """Ask for ``y`` or ``n``; return True for ``y``. Ctrl-C stops the command that asks."""
        question = plain(question)
        self._answer_shown.release()
        if self._assume_yes:
            self.notify(f"{question} (y/n) y")
            return True
        self._answer = asyncio.get_running_loop().create_future()
        self._status.question = f"{question} (y/n) "
        self._screen.refresh()
        try:
            yes = await self._answer
            self.notify(f"{self._status.question}{'y' if yes else 'n'}")
        finally:
            self._status.question, self._answer = "", None
            self._screen.refresh()
        return yes

    def progress(self, title: str) -> Progress:
        """Show a progress bar until it is closed or the running command ends."""
        self._answer_shown.release()
        bar = Bar(title, self._screen.refresh, self._close_bar)
        self._status.bars.append(bar)
        self._bar_shown = True
        self._screen.refresh()
        return bar

    def _close_bar(self, bar: Bar) -> None:
        if bar in self._status.bars:
            self._status.bars.remove(bar)
            self._screen.refresh()

    @property
    def columns(self) -> int:
        """The width of the terminal."""
        if isinstance(self._screen, DrawnScreen):
            return self._application.output.get_size().columns
        return shutil.get_terminal_size().columns

    def picture(self) -> Painter | None:
        """Begin a picture. None if the terminal can't be redrawn, or if there is one already."""
        if not isinstance(self._screen, DrawnScreen) or (self._picture and not self._picture.is_over):
            return None
        self._answer_shown.release()
        self._picture = Painter(self._status, self._screen, self._application.output)
        return self._picture

    # What the keys do

    def enter(self) -> None:
        lines = [without_prompt(line) for line in self._buffer.text.split("\n")]
        self._tail = ""
        self._typed = len(lines) == 1 and self._running is None
        self._submit(lines, Document())
        self._typed = False

    def interrupt(self) -> None:
        if self._running is not None:
            self._answer_shown.release()
            if self._picture is not None:
                self._picture.close()
            self.notify("^C")
            self._running.cancel()
        else:
            self._buffer.reset()
            self._screen.refresh()

    def end_of_input(self) -> None:
        self._submit(["quit"], Document())

    def leave(self) -> None:
        """End ``run`` because the terminal has gone; the process may continue without it."""
        self._has_left = True
        self._ended.set()

    def interrupt_program(self) -> None:
        """Handle SIGINT sent to the process: stop the running command, drop waiting lines, run ``quit``.

        While a pager or editor has the terminal, SIGINT is that program's Ctrl-C.
        """
        if self._programs.interrupt():
            return
        running = self._running
        if running is None:
            self._submit(["quit"], self._buffer.document)
            return
        running.cancel()
        # runs after _finish, which drops the waiting lines
        running.add_done_callback(lambda _: self._submit(["quit"], self._buffer.document))

    def suspend(self) -> None:
        self._suspension.begin()

    def run_line(self, line: str) -> None:
        self._submit([line], self._buffer.document)

    def _is_asking(self) -> bool:
        return self._answer is not None and not self._answer.done()

    def answer(self, yes: bool) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(yes)

    def paste(self, text: str) -> None:
        before, after = self._buffer.document.text_before_cursor, self._buffer.document.text_after_cursor
        pasted = read_pasted(self._monitor.tables, as_lines(text), before, after)
        if pasted.lines:
            self._take(
                [pasted] if pasted.is_changed else pasted.lines, pasted.tail, after if pasted.joins else None
            )
            return
        if pasted.left_out:
            self.notify(self._summary(pasted))
        self._buffer.insert_text(pasted.tail)

    def burst(self, text: str) -> None:
        before, after = self._buffer.document.text_before_cursor, self._buffer.document.text_after_cursor
        burst = read_burst(text)
        if burst.left_out.count:
            self.notify(unrun(self._monitor, burst.left_out))
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
        self._tail = tail and typed.text
        self._submit(lines, typed)

    def edit(self) -> None:
        task = asyncio.create_task(self._edit())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _edit(self) -> None:
        """Open the line in an editor; put the result on the prompt, to be run by Enter."""
        words = ["editor"]
        try:
            words = editor_command()
            text = await self._programs.edit(words, self._buffer.text)
        except (QmonError, OSError) as error:
            self.notify(f"The line was not changed: {why(error, words)}")
            return
        text = as_lines(text)
        self._buffer.document = Document(text, len(text))
        self._screen.refresh()

    # Lines, one after another

    def _submit(self, lines: Sequence[str | Pasted], typed: Document) -> None:
        self._buffer.reset(typed)
        self._application.vi_state.reset()
        self._waiting.add(lines)
        self._next()

    def _next(self) -> None:
        """Start the next waiting line unless a command runs; if no line waits, show the prompt."""
        while self._running is None and self._waiting and not self._over:
            line = self._waiting.next()
            if isinstance(line, Pasted):
                self._start(self._consent(line))
                break
            self._screen.echo(line)
            reading = self._monitor.read(line)
            if not reading.does_nothing:
                self.lines.append(line)
                self._history.append_string(line, is_secret=bool(without_secrets(reading).secrets))
                self._start(self._run(reading, self._pages if self._typed else None))
        if self._running is None and not self._over:
            self._buffer.reset(self._buffer.document)  # so that it sees the new history entries
            self._status.busy = False
        self._screen.refresh()

    def _start(self, command: Coroutine[None, None, bool]) -> None:
        self._status.busy = True
        self._running = asyncio.create_task(command)
        self._running.add_done_callback(self._finish)

    async def _consent(self, pasted: Pasted) -> bool:
        """Show a pasted text's lines and ask whether to run them; without a yes they are abandoned."""
        self._is_consenting = True
        try:
            self.notify(self._summary(pasted))
            return await self.ask(question(pasted))
        finally:
            self._is_consenting = False
            self._waiting.add_first(pasted.lines)

    def _summary(self, pasted: Pasted) -> str:
        return summary(pasted, self._monitor.read, self._application.output.get_size().columns)

    async def _run(self, reading: Reading, pager: list[str] | None) -> bool:
        answer = self._answer_shown = Answer(self.notify, whole=pager is not None)
        try:
            error = await self._monitor.run(reading, self._person)
            secret = bool(without_secrets(reading).secrets)
            self._history.note_result(reading.text, failed=error is not None, is_secret=secret)
            if error:
                self._person.print(error)
            for hint in self._person.take_hints():
                self._person.print(hint)
            if error is not None and (near := await nearest(self._monitor, reading)) is not None:
                self._person.print(f"Did you mean '{near}'?")
            if pager is not None:
                await self._page(answer, pager)
        finally:
            answer.release()
        if error is None and not self._bar_shown:  # before the next waiting line
            while self._ends:
                await self._tell_end(self._ends.pop(0))
        return error is None

    async def _page(self, answer: Answer, pager: list[str]) -> None:
        """Show an answer in the pager if it is longer than the screen."""
        size = self._application.output.get_size()
        text = answer.long_text(size.rows, size.columns)
        if text is None or self._waiting or self._over:
            return
        answer.keep()
        try:
            await self._programs.page(pager, text)
        except (QmonError, OSError) as error:
            self.notify(f"The pager failed: {why(error, pager)}")
        else:
            answer.drop()

    def _finish(self, task: asyncio.Task[bool]) -> None:
        self._running = None
        self._status.bars.clear()
        if task.cancelled():
            good = False
        elif error := task.exception():
            good = False
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{self.lines[-1:]} failed", "exception": error, "task": task}
            )
        else:
            good = task.result()
        if self._monitor.quitting:
            self._ended.set()
        said, self._bar_shown = not task.cancelled() and (self._bar_shown or not good), False
        ends, self._ends = self._ends, []
        if not said:
            for status in ends:
                self._announce(status)
        if not good:
            self._abandon()
        self._next()

    def _abandon(self) -> None:
        """Drop the waiting lines and a paste's unfinished last line, and say how many they were."""
        count = self._waiting.abandon()
        if self._tail and self._buffer.text == self._tail:
            count += not does_nothing(self._tail)
            self._buffer.reset()
        self._tail = ""
        if count:
            self.notify(not_run(count))
            if self._has_left:
                _logger.warning("the terminal has gone: %s", not_run(count))

    # Events, and the end

    @property
    def _over(self) -> bool:
        return self._ended.is_set() or self._quit_requested.is_set()

    def _hear(self, event: Event) -> None:
        if event.name == "SHUTDOWN":
            self._ended.set()
        if self.tells_events and (said := news(event)) is not None:
            self.notify(said)
        if self.tells_events and self._attention is not None:
            self._attention.hear(event)
        status = migration_news(event)
        if status is not None and self.tells_events:
            # a running command may report the end of the migration; _finish announces it if not
            if self._running is not None and not self._is_consenting:
                self._ends.append(status)
            else:
                self._announce(status)

    async def _tell_end(self, status: str) -> None:
        if status in AT_ONCE:
            self.notify(AT_ONCE[status])
        else:
            await announce(status, self._monitor.target, self.notify)

    def _announce(self, status: str) -> None:
        task = asyncio.create_task(self._tell_end(status))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _settle(self) -> None:
        """Wait for the running command to end, then drop the waiting lines."""
        self._ended.set()
        self._programs.close()
        await self._suspension.close()
        running = self._running
        if running is not None:
            await asyncio.wait([running], timeout=_LAST_WORDS_SECONDS)
            self._person.silent = True
            running.cancel()
            await asyncio.wait([running])
        self._abandon()

    def _leave(self) -> None:
        self._screen.close()
        if isinstance(self._application.output, TerminalOutput):
            self._application.output.leave()
