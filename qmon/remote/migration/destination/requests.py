"""What the source's console asks of the destination's, and the answers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.notation.plain_text import one_line
from qmon.remote.migration.agreement.inventory import Inventory, take_inventory
from qmon.remote.migration.agreement.requested import requested_exports
from qmon.remote.migration.destination.incoming import Incoming
from qmon.remote.migration.destination.steps import Steps
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.qemu import ENDED_THERE
from qmon.remote.migration.states import Event

SEEN_SECONDS = 1.0
"""How long what was seen in the QEMU holds: a source asks for it, and for the exports right behind."""
LOADED_SECONDS = 30.0
"""How long RUN waits for the QEMU to have read what the source has sent."""
WHY_SECONDS = 1.0
"""How long it may take until the QEMU says on what it has failed."""

Data = Mapping[str, Any]


class Requests:
    """Answers them, in the phases in which they are possible."""

    def __init__(
        self, incoming: Incoming, steps: Steps, stop_listening: Callable[[], Awaitable[None]]
    ) -> None:
        """``stop_listening`` closes the door, when nobody has anything to ask any more."""
        self._incoming = incoming
        self._steps = steps
        self._stop_listening = stop_listening
        self._seen: tuple[float, Inventory | None] = 0.0, None
        self._answers: dict[str, Callable[[Data], Awaitable[Any]]] = {
            "inventory": self._inventory,
            "prepare": self._prepare,
            "memory": self._memory,
            "close": self._close,
            "run": self._run,
            "call-off": self._call_off,
            "heard": self._heard,
            "why": self._why,
        }

    async def answer(self, id_: str, command: str, arguments: Data) -> Any:
        """Answer a request of the migration ``id_``, which may have ended meanwhile. Raises CommandError."""
        if id_ != self._incoming.id:
            raise CommandError("the migration has ended at the destination")
        answers = {**self._answers, **self._incoming.answers.requests(self._steps.phase)}
        if command not in answers:
            raise CommandError(f"the destination's console does not know '{one_line(command)}' now")
        return await answers[command](arguments)

    async def _inventory(self, arguments: Data) -> Any:
        found = await take_inventory(self._incoming.remote)
        self._seen = time.monotonic(), found
        return found.to_message()

    async def _prepare(self, arguments: Data) -> Any:
        at, here = self._seen
        if here is None or time.monotonic() - at > SEEN_SECONDS:
            here = await take_inventory(self._incoming.remote)
        self._incoming.exports = requested_exports(arguments, here)
        await self._steps.step(Event.PREPARE)
        return {}

    async def _memory(self, arguments: Data) -> Any:
        if not self._incoming.lines.has_memory:
            raise CommandError("the connection for the memory is not there")
        await self._steps.step(Event.MEMORY)
        return {}

    async def _close(self, arguments: Data) -> Any:
        self._incoming.runs = bool(arguments["runs"])
        await self._steps.step(Event.CLOSE)
        return {}

    async def _run(self, arguments: Data) -> Any:
        """RUN: the source's QEMU can't run the guest any more. The answer says what has become of it."""
        await self._moving_is_over(LOADED_SECONDS)
        if self._steps.takes(Event.RUN):
            with contextlib.suppress(CommandError):  # what has come of it is the answer
                await self._steps.step(Event.RUN)
        await self._steps.until_left(Phase.RUNNING)
        return self._outcome()

    def _outcome(self) -> dict[str, Any]:
        phase = self._steps.phase
        match phase:
            case Phase.COMPLETED | Phase.SETTLED:
                return {"outcome": "runs"}
            case Phase.REFUSED if self._incoming.refuses:
                return {"outcome": "refused", "reason": self._incoming.side.reason}
        return {"outcome": "unknown", "reason": f"the destination's state is '{phase.value}'"}

    async def _call_off(self, arguments: Data) -> Any:
        why = one_line(str(arguments.get("reason", "")))
        if self._steps.takes(Event.CALL_OFF):
            self._incoming.side.reason = "the source has called the migration off" + (
                f": {why}" if why else ""
            )
            await self._steps.step(Event.CALL_OFF)
        return {}

    async def _heard(self, arguments: Data) -> Any:
        await self._steps.try_(Event.HEARD)
        if self._steps.phase is Phase.SETTLED:
            await self._stop_listening()
        return {}

    async def _why(self, arguments: Data) -> Any:
        """Say why the QEMU here has failed, "" if it has not; what it failed on arrives in a moment."""
        if self._incoming.remote.peer_has_ended:
            return {"reason": ENDED_THERE}
        await self._moving_is_over(WHY_SECONDS)
        return {"reason": self._incoming.side.reason if self._steps.phase is Phase.REFUSED else ""}

    async def _moving_is_over(self, seconds: float) -> None:
        """Wait until the QEMU has read the memory, or has failed, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._steps.until_left(Phase.MOVING)
