"""Waits that an event of the QEMU ends early."""

from __future__ import annotations

import asyncio
import contextlib


class Nudges:
    """What has come since the last wait ends the next one at once."""

    def __init__(self) -> None:
        self._kick = asyncio.Event()

    def nudge(self) -> None:
        """End the wait."""
        self._kick.set()

    async def wait(self, seconds: float) -> None:
        """Wait for a nudge, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._kick.wait()
        self._kick.clear()
