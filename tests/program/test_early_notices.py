"""What a migration that an earlier console has left says before this one listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from qmon.program.moving import NOTICE, take_up
from qmon.qmp.events import EventBus
from qmon.qmp.target import Listener
from qmon.remote.migration.target import MigratingTarget


class InDoubt:
    """Tells who decides while it is taken up, and a moment later."""

    def __init__(self) -> None:
        self._bus = EventBus()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self._bus.subscribe(listener)

    def tell(self, message: str) -> None:
        self._bus.emit(NOTICE, {"message": message}, private=True)

    async def take_up(self) -> str:
        self.tell("who decides")
        return "what was found"


def test_who_decides_is_told_by_a_new_console() -> None:
    target = InDoubt()
    lines = asyncio.run(take_up(cast(MigratingTarget, target)))
    target.tell("what is asked")
    assert lines == ["what was found", "who decides", "what is asked"]
