"""The trial of a migration that is under way, if there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")


class RunningTrial:
    """At most one; its drives are busy meanwhile."""

    def __init__(self) -> None:
        self._cancel: Callable[[], None] | None = None
        self._ended = asyncio.Event()

    @property
    def is_under_way(self) -> bool:
        return self._cancel is not None

    async def run(self, cancel: Callable[[], None], run: Callable[[], Awaitable[_T]]) -> _T:
        """Await ``run``, a trial. ``cancel`` ends it early, with an error."""
        self._cancel, self._ended = cancel, asyncio.Event()
        try:
            return await run()
        finally:
            self._cancel = None
            self._ended.set()

    def cancel(self) -> None:
        """End it early, if it is under way."""
        if self._cancel is not None:
            self._cancel()

    async def close(self) -> None:
        """End it early, and wait until it has ended."""
        if self._cancel is not None:
            self._cancel()
            await self._ended.wait()
