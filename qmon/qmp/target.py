"""The one contract between the human side and the machine side: a QMP command, its arguments, its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Arguments = Mapping[str, Any]
"""A command's arguments under their QMP names; values are what JSON can hold."""


@dataclass(frozen=True, slots=True)
class Event:
    """A QMP event: its name, its data, and when it happened (seconds since the epoch).

    A ``private`` one is for the people at this program's own monitors, not for QMP's clients: they have not
    asked for it.
    """

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    timestamp: float = 0.0
    private: bool = False


Listener = Callable[[Event], None]


class Target(Protocol):
    """What a monitor's commands go to: the embedded machine, or a connection to another program."""

    def commands(self) -> frozenset[str]:
        """The names of the QMP commands that this target has."""

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        """Run one command and return its result as JSON would hold it.

        Raises CommandError when it failed, CommandNotFoundError when there is none of that name.
        """

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for each event, on the loop; what is returned ends that."""


async def ask(target: Target, query: str, otherwise: Any, arguments: Arguments | None = None) -> Any:
    """What a target answers; ``otherwise`` when it has no such query. Raises CommandError."""
    return await target.execute(query, arguments) if query in target.commands() else otherwise
