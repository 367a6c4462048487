"""Work that an event ends: what a side does in a phase, until the phase is over another way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from qmon.errors import CommandError
from qmon.remote.migration.states import Event

STANDING_SECONDS = 20.0
"""For each step in which the guest stands still; then the migration is called off, and it runs again."""

T = TypeVar("T")


class Interruption(Exception):  # noqa: N818 - like StopIteration it steers, and is no error
    """The event that has ended some work."""

    def __init__(self, event: Event) -> None:
        super().__init__(event.name)
        self.event = event


class Interruptible:
    """Runs one work at a time. An event that comes between two of them ends the next one at once."""

    def __init__(self, takes: Callable[[Event], bool]) -> None:
        """``takes`` says whether an event has a transition in the phase now; another is of no interest."""
        self._takes = takes
        self._pending: list[Event] = []
        self._interrupt: asyncio.Future[Event] | None = None

    def interrupt(self, event: Event) -> bool:
        """End the work by an event; return whether the phase takes it."""
        if not self._takes(event):
            return False
        if self._interrupt is not None and not self._interrupt.done():
            self._interrupt.set_result(event)
        else:
            self._pending.append(event)
        return True

    def pending(self) -> Event | None:
        """Return an event that has come since the last work, None if none has."""
        self._pending = [each for each in self._pending if self._takes(each)]
        return self._pending.pop(0) if self._pending else None

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for some work. Raises Interruption, and what the work raises."""
        if event := self.pending():
            work.close()
            raise Interruption(event)
        task = asyncio.create_task(work)
        interrupt = self._interrupt = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({task, interrupt}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    task.exception()  # it has failed meanwhile; what has interrupted it says more
                raise Interruption(interrupt.result())
            if interrupt.done():
                self._pending.insert(0, interrupt.result())  # both came at once
            return task.result()
        finally:
            self._interrupt = None
            if not task.done():
                task.cancel()


@contextlib.asynccontextmanager
async def within(seconds: float, why: str) -> AsyncIterator[None]:
    """Bound what is done. Raises CommandError with ``why`` when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise CommandError(why) from error


def standing_still(why: str) -> AbstractAsyncContextManager[None]:
    """Bound a step in which the guest stands still, and the time for which it does. Raises CommandError."""
    return within(STANDING_SECONDS, f"the guest has stood still for {STANDING_SECONDS:g} s, and {why}")
