"""State machines as data: which transition an event makes in a phase, and the actions of it, in order."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

PhaseT = TypeVar("PhaseT", bound=enum.Enum)
EventT = TypeVar("EventT", bound=enum.Enum)
ActionT = TypeVar("ActionT", bound=enum.Enum)


@dataclass(frozen=True)  # without slots, with which Python 3.11 can't make one by an alias of its type
class Row(Generic[PhaseT, ActionT]):
    """A transition: the next phase, and the actions in order."""

    to: PhaseT
    actions: tuple[ActionT, ...] = ()


Table = Mapping[PhaseT, Mapping[EventT, Row[PhaseT, ActionT]]]


class InvalidTransitionError(Exception):
    """The table has no transition for this event in this phase."""

    def __init__(self, phase: enum.Enum, event: enum.Enum) -> None:
        super().__init__(f"{event.name} is not possible in phase '{phase.value}'")
        self.phase = phase
        self.event = event


def takes(table: Table[PhaseT, EventT, ActionT], phase: PhaseT, event: EventT) -> bool:
    """Whether there is a transition for an event in a phase."""
    return event in table.get(phase, {})


def row(table: Table[PhaseT, EventT, ActionT], phase: PhaseT, event: EventT) -> Row[PhaseT, ActionT]:
    """Return the transition for an event in a phase. Raises InvalidTransitionError."""
    if not takes(table, phase, event):
        raise InvalidTransitionError(phase, event)
    return table[phase][event]
