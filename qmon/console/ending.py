"""The console's end: the machine has quit, the program wants it, or the terminal has gone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends the console. Each is an event that is set once."""

    quit_requested: asyncio.Event
    machine_has_quit: asyncio.Event = field(default_factory=asyncio.Event)
    terminal_has_gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def events(self) -> tuple[asyncio.Event, ...]:
        return (self.quit_requested, self.machine_has_quit, self.terminal_has_gone)

    @property
    def has_begun(self) -> bool:
        """Whether no further line runs."""
        return any(event.is_set() for event in self.events)
