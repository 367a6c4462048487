"""The destination's half of all comparisons: its console answers what the source's asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from qmon.remote.migration.lines.private_server import PrivateServer
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.proof.overlays import OVERLAYS, OverlaysShown
from qmon.remote.migration.proof.read_only import READ_ONLY, show_read_only
from qmon.remote.migration.proof.verification import COMPARE
from qmon.remote.migration.proof.views import (
    DIGESTS,
    SHOWN,
    VIEWS_MAX,
    Views,
    start_server,
    stop_server,
)
from qmon.remote.migration.wire.message import Members
from qmon.remote.remote import Remote

Answer = Callable[[Mapping[str, Any]], Awaitable[Any]]
Requests = dict[str, Answer]


class Answers:
    """Before the copy it shows images on a server of its own, later the disks on the server of the copies.

    ``close`` it before that server is stopped, and when the other console is gone.
    """

    def __init__(self, remote: Remote, server: PrivateServer) -> None:
        """``server`` has the exports of the disks."""
        self._remote = remote
        self._disks = Views(server)
        self._before = Views(PrivateServer(remote))
        self._is_before = False
        self._turn = asyncio.Lock()

    def requests(self, phase: Phase) -> Requests:
        """Return the requests that are possible in a phase of the destination."""
        requests: dict[Phase, Requests] = {
            Phase.SETUP: {
                OVERLAYS: partial(self._show, OverlaysShown(self._remote, self._before).show),
                READ_ONLY: partial(self._show, partial(show_read_only, self._before)),
                SHOWN: self._end_showing,
            },
            Phase.COPYING: {COMPARE: self._compare},
            Phase.MOVING: {},
        }
        return {**requests[phase], DIGESTS: self._digests} if phase in requests else {}

    async def close(self) -> None:
        """End all connections, and the server of its own; idempotent. Raises CommandError."""
        async with self._turn:
            await self._close()

    async def _close(self) -> None:
        self._is_before = False
        await self._disks.close()
        await self._before.close()
        await stop_server(self._remote, self._before.server)

    async def _show(self, show: Answer, arguments: Mapping[str, Any]) -> Any:
        """Export what is asked for on a server of its own."""
        async with self._turn:
            await self._close()
            await start_server(self._before.server, "destination")
            self._is_before = True
            try:
                return await show(arguments)
            except BaseException:
                await self._close()
                raise

    async def _end_showing(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        await self.close()
        return {}

    async def _compare(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        async with self._turn:
            await self._disks.close()
            for name in Members(arguments, "a question about disks").texts("views", VIEWS_MAX):
                await self._disks.open(name)
        return {}

    async def _digests(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return await (self._before if self._is_before else self._disks).answer(arguments)
