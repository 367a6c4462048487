"""The console: it puts together what a person touches, and serves the terminal from start to end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

from qmon.console.actions import Actions
from qmon.console.announcer import Announcer
from qmon.console.attention import Attention
from qmon.console.display import Display
from qmon.console.ending import Ending
from qmon.console.keys import build_keys
from qmon.console.lines import Lines
from qmon.console.person import TerminalPerson
from qmon.console.programs import Programs, pager_command
from qmon.console.prompt import Prompt
from qmon.console.runner import Runner
from qmon.console.settings import DEFAULTS, Settings
from qmon.console.streams import stray_text_to
from qmon.console.suspension import Shell, Suspension
from qmon.console.terminal import is_dumb
from qmon.console.toolbar import Toolbar
from qmon.console.waiting import Waiting
from qmon.hmp.monitor import Monitor
from qmon.hmp.prompt import PROMPT
from qmon.qmp.target import Event


class Console:
    """A monitor on the terminal that is stdin and stdout.

    One application owns the terminal in raw mode from start to end. It shows a prompt, or the running
    command's bar or question. Call all methods on the loop's thread.
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
        settings: Settings = DEFAULTS,
        shell: Shell | None = None,
        leave: Callable[[], None] | None = None,
        prompt: str = PROMPT,
        unwatched: str = "",
    ) -> None:
        """With ``history_path`` None no history is saved; setting ``quit_requested`` ends ``run``.

        ``quiet``: show no notices of events; ``assume_yes``: answer every question with yes; ``leave`` ends
        the console alone, which then never ends the machine by itself; None: the machine ends with it.
        ``unwatched``: do not ask for the machine's state; the row below the prompt shows this text instead.
        """
        if settings.plain or is_dumb(os.environ.get("TERM")):
            settings = replace(
                settings, plain=True, suggestions=False, toolbar=False, completion=False, bell=False
            )
        self._monitor = monitor
        self._greeting = greeting
        self._leave = leave
        self._background: set[asyncio.Task[None]] = set()
        self._ending = Ending(quit_requested or asyncio.Event())
        self._prompt = Prompt(monitor, history_path, lambda text: self._display.tell(text), settings)
        self._display = display = Display(self._prompt, settings)
        display.status.prompt = prompt
        self._person = TerminalPerson(display, tells_events=not quiet, assume_yes=assume_yes)
        self._person.keys = settings.keys
        attention = Attention(display.send, os.environ) if settings.bell else None
        self._announcer = Announcer(
            monitor.target,
            self._person,
            display.tell,
            attention,
            self._in_background,
            is_connected=bool(monitor.connected_to),
        )
        self._programs = Programs(display.application, display.screen)
        self._suspension = Suspension(shell, self._programs, display.tell, self.leave)
        waiting = Waiting()
        runner = Runner(
            monitor,
            self._person,
            display,
            self._prompt.history,
            self._announcer,
            self._programs,
            None if settings.plain else pager_command(),
            waiting,
            self._ending,
        )
        self._lines = Lines(
            monitor, self._prompt, display, self._person, self._announcer, runner, waiting, self._ending
        )
        actions = Actions(
            monitor, self._prompt, display, self._lines, self._programs, self._in_background, leave
        )
        display.application.key_bindings = build_keys(
            self._prompt.buffer, actions, self._lines, self._person, self._suspension, settings.bindings
        )
        self._toolbar = (
            Toolbar(
                monitor.target, self._prompt, display, monitor.connected_to, unwatched, self._announcer.see
            )
            if settings.toolbar
            else None
        )

    async def run(self) -> int:
        """Serve the person until the machine quits, ``quit_requested`` is set or the terminal has gone.

        Returns the exit status, 0. The terminal's mode is restored, also when an exception is raised.
        """
        application = self._display.application
        if self._greeting:
            self._display.notify(self._greeting)
        self._prompt.history.prepare()
        application.after_render += self._begin
        unsubscribe = self._monitor.target.subscribe(self._hear)
        owner = asyncio.create_task(application.run_async(set_exception_handler=False, handle_sigint=False))
        if self._toolbar is not None:
            self._in_background(self._toolbar.watch())
        ends = [asyncio.create_task(event.wait()) for event in self._ending.events]
        try:
            with stray_text_to(self._display.tell, lambda: self._person.tells_events):
                await asyncio.wait([owner, *ends], return_when=asyncio.FIRST_COMPLETED)
                if owner.done():
                    self.leave()
                self._programs.close()
                await self._suspension.close()
                await self._lines.settle()
                if application.is_running and not application.is_done:
                    application.exit()
                await asyncio.gather(owner, return_exceptions=True)
        finally:
            unsubscribe()
            tasks = [owner, *ends, *self._background]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._lines.close()
            self._display.leave()
        error = owner.exception() if not owner.cancelled() else None
        if error is not None and not isinstance(error, EOFError):
            raise error
        return 0

    def leave(self) -> None:
        """End ``run`` because the terminal has gone; the process may continue without it."""
        self._ending.terminal_has_gone.set()

    def interrupt_program(self) -> None:
        """Handle SIGINT sent to the process: stop the running command, drop waiting lines, quit or leave.

        While a pager or editor has the terminal, SIGINT is that program's Ctrl-C.
        """
        if self._programs.interrupt():
            return
        if self._leave is not None:
            self._leave()
        else:
            self._lines.quit()

    def _begin(self, _: object) -> None:
        """Show the first prompt. It must not be seen before raw mode is on: a paste would be echoed."""
        self._display.application.after_render -= self._begin
        if not self._lines.is_running:
            self._display.status.busy = False
            self._display.screen.refresh()

    def _hear(self, event: Event) -> None:
        if event.name == "SHUTDOWN" and self._leave is None:
            self._ending.machine_has_quit.set()
        self._announcer.hear(event)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine that ends with the console."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
