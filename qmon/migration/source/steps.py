"""A source's phase, and what keeps its thread from going on: a cancel, a pause, failed switchovers."""

from __future__ import annotations

from collections.abc import Callable

from qmon.errors import QmonError
from qmon.migration.phases import Phase
from qmon.migration.source.errors import LinkError
from qmon.migration.states import SOURCE, Action, Event, StateMachine
from qmon.transitions import takes

BY_OPERATOR = "it was paused by migrate_pause"


class CancelledError(QmonError):
    """The migration was cancelled here."""


class Steps(StateMachine):
    """The state machine of a source. For any thread."""

    def __init__(
        self, do: Callable[[Action], None], on_change: Callable[[Phase], None], phase: Phase
    ) -> None:
        super().__init__(SOURCE, do, on_change, phase)
        self.failure: str | None = None
        """Why the migration must end after too many switchovers."""
        self.is_to_pause = False
        """Whether the operator has ordered to pause."""

    @property
    def may_break(self) -> bool:
        """Whether a broken line may only pause a migration in this phase."""
        return takes(SOURCE, self.phase, Event.BREAK)

    def check(self) -> None:
        """Raises the error that ends the work on this line."""
        if self.phase is Phase.CANCELLING:
            raise CancelledError("the migration was cancelled")
        if self.failure is not None:
            raise QmonError(self.failure)
        if self.is_to_pause:
            raise LinkError(BY_OPERATOR)

    def advance(self, event: Event) -> None:
        """As ``step``, for the source's thread. Raises CancelledError if it was cancelled just before."""
        if not self.try_step(event):
            self.check()
            self.step(event)
