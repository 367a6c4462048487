"""Decides when the operator is told of an event: at once, or after the command that runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from qmon.console.attention import Attention
from qmon.console.notices import AT_ONCE, announce, migration_news, news
from qmon.console.person import TerminalPerson
from qmon.console.remote_notices import connection_news, machine_news
from qmon.errors import CommandError
from qmon.hmp.migration_state import is_under_way
from qmon.notation.plain_text import one_line
from qmon.qmp.target import Event, Target, well_formed

NO_TLS = "X_QMON_NO_TLS"
_PARTS_OF_IT = ("STOP", "RESUME")
"""Events that are parts of a guest's move: its end says where the guest runs."""


class Announcer:
    """Tells of events, unless the person wants none.

    While a command runs, the end of a migration is held: the command may report it.
    """

    def __init__(
        self,
        target: Target,
        person: TerminalPerson,
        notify: Callable[[str], None],
        attention: Attention | None,
        begin: Callable[[Coroutine[None, None, None]], None],
        *,
        is_connected: bool = False,
    ) -> None:
        """``begin`` runs a coroutine in the background; ``is_connected``: others use the machine, too."""
        self._target = target
        self._person = person
        self._notify = notify
        self._attention = attention
        self._begin = begin
        self._is_connected = is_connected
        self._is_holding = False
        self._held: list[str] = []
        self._gets_events = False
        """Whether the machine has sent an event of a migration."""
        self._moves = False
        """Whether two consoles move a guest from or to this QEMU."""
        self._seen = ""

    def hear(self, event: Event) -> None:
        try:
            with well_formed():
                self._hear(event)
        except CommandError as error:
            self._notify(f"Event {one_line(event.name)}: {one_line(str(error))}")

    def _hear(self, event: Event) -> None:
        if (said := connection_news(event)) is not None:
            self._notify(said)
        self._gets_events = self._gets_events or event.name == "MIGRATION"
        if event.name == "MIGRATION" and "x-qmon-waits" in event.data:
            self._moves = is_under_way(event.data)
        if not self._person.tells_events or (self._moves and event.name in _PARTS_OF_IT):
            return
        # the person knows what their own running line does
        if self._is_connected and not self._is_holding and (said := machine_news(event)) is not None:
            self._notify(said)
        if (said := news(event)) is not None:
            self._notify(said)
        if self._is_connected and event.name == NO_TLS:  # a process of its own prints it
            self._notify(one_line(str(event.data.get("message", ""))))
        if self._attention is not None:
            self._attention.hear(event)
        if (status := migration_news(event)) is not None:
            self._announce(status)

    def see(self, status: str) -> None:
        """Take the status of the migration, asked for now and then: a QEMU may send no events of it."""
        before, self._seen = self._seen, status
        if self._gets_events or not self._is_connected or not self._person.tells_events:
            return
        if is_under_way({"status": before}) and status in ("completed", "failed", *AT_ONCE):
            self._announce(status)

    def _announce(self, status: str) -> None:
        if self._is_holding:
            self._held.append(status)
        else:
            self._begin(self._tell_end(status))

    def hold(self) -> None:
        """Hold the ends of migrations from now on."""
        self._is_holding = True

    async def tell(self) -> None:
        """Tell of the ends that are held."""
        while self._held:
            await self._tell_end(self._held.pop(0))

    def release(self, *, told: bool) -> None:
        """Hold no more; ``told``: whether the person knows of those that are held."""
        self._is_holding = False
        held, self._held = self._held, []
        if not told:
            for status in held:
                self._begin(self._tell_end(status))

    async def _tell_end(self, status: str) -> None:
        if status in AT_ONCE:
            self._notify(AT_ONCE[status])
            return
        try:
            with well_formed():
                await announce(status, self._target, self._notify)
        except CommandError as error:
            self._notify(f"The migration has ended ({status}): {one_line(str(error))}")
