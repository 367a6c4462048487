"""Runs one command: shows its answer, line by line or in the pager, and what helps if it has failed."""

from __future__ import annotations

from qmon.console.announcer import Announcer
from qmon.console.answers import Answer
from qmon.console.display import Display
from qmon.console.ending import Ending
from qmon.console.history import CommandHistory
from qmon.console.person import TerminalPerson
from qmon.console.programs import Programs, why
from qmon.console.waiting import Waiting
from qmon.errors import QmonError
from qmon.hmp.editing.nearest import advice
from qmon.hmp.line.reading import Reading
from qmon.hmp.line.secrets import without_secrets
from qmon.hmp.monitor import Monitor


class Runner:
    """Runs a command for the person. Cancel ``run`` to stop it."""

    def __init__(
        self,
        monitor: Monitor,
        person: TerminalPerson,
        display: Display,
        history: CommandHistory,
        announcer: Announcer,
        programs: Programs,
        pager: list[str] | None,
        waiting: Waiting,
        ending: Ending,
    ) -> None:
        """``pager`` is the command that shows a long answer; None for no pager."""
        self._monitor = monitor
        self._person = person
        self._display = display
        self._history = history
        self._announcer = announcer
        self._programs = programs
        self._pager = pager
        self._waiting = waiting
        self._ending = ending

    async def run(self, reading: Reading, *, may_page: bool) -> bool:
        """Run a command; return whether it succeeded.

        With ``may_page`` an answer that is longer than the screen goes to the pager.
        """
        person = self._person
        pager = self._pager if may_page else None
        answer = person.begin_answer(whole=pager is not None)
        try:
            error = await self._monitor.run(reading, person)
            secret = bool(without_secrets(reading).secrets)
            self._history.note_result(reading.text, failed=error is not None, is_secret=secret)
            if error:
                person.tell(error)
            for hint in (hints := person.take_hints()):
                person.tell(hint)
            way_on = None if error is None else await advice(self._monitor, reading)
            if way_on is not None and way_on not in hints:
                person.tell(way_on)
            if pager is not None:
                await self._page(answer, pager)
        finally:
            answer.release()
        if error is None and not person.has_seen_bar:  # before the next waiting line
            await self._announcer.tell()
        return error is None

    async def _page(self, answer: Answer, pager: list[str]) -> None:
        """Show an answer in the pager if it is longer than the screen."""
        text = answer.long_text(self._display.size.rows, self._display.size.columns)
        if text is None or self._waiting or self._ending.has_begun:
            return
        answer.keep()
        try:
            await self._programs.page(pager, text)
        except (QmonError, OSError) as error:
            self._display.tell(f"The pager failed: {why(error, pager)}")
        else:
            answer.drop()
