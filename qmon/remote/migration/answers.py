"""The destination's half of all comparisons: its console answers what the source's asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from qmon.remote.migration.message import Members
from qmon.remote.migration.overlays import OVERLAYS, OVERLAYS_END, OVERLAYS_MAX, OverlaysShown
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.private_server import PrivateServer
from qmon.remote.migration.verification import COMPARE
from qmon.remote.migration.views import DIGESTS, Views, start_server, stop_server
from qmon.remote.remote import Remote

Requests = dict[str, Callable[[Mapping[str, Any]], Awaitable[Any]]]


class Answers:
    """Before the copy it shows overlays on a server of its own, later the disks on the server of the copies.

    ``close`` it before that server is stopped, and when the other console is gone.
    """

    def __init__(self, remote: Remote, server: PrivateServer) -> None:
        """``server`` has the exports of the disks."""
        self._remote = remote
        self._disks = Views(server)
        self._overlays = Views(PrivateServer(remote))
        self._shows_overlays = False

    def requests(self, phase: Phase) -> Requests:
        """Return the requests that are possible in a phase of the destination."""
        requests: dict[Phase, Requests] = {
            Phase.SETUP: {OVERLAYS: self._show_overlays, OVERLAYS_END: self._end_overlays},
            Phase.COPYING: {COMPARE: self._compare},
            Phase.MOVING: {},
        }
        return {**requests[phase], DIGESTS: self._digests} if phase in requests else {}

    async def close(self) -> None:
        """End all connections, and the server of the overlays; idempotent. Raises CommandError."""
        self._shows_overlays = False
        await self._disks.close()
        await self._overlays.close()
        await stop_server(self._remote, self._overlays.server)

    async def _show_overlays(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        await self.close()
        await start_server(self._overlays.server, "destination")
        self._shows_overlays = True
        try:
            return await OverlaysShown(self._remote, self._overlays).show(arguments)
        except BaseException:
            await self.close()
            raise

    async def _end_overlays(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        await self.close()
        return {}

    async def _compare(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        await self._disks.close()
        for name in Members(arguments, "a question about disks").texts("views", OVERLAYS_MAX):
            await self._disks.open(name)
        return {}

    async def _digests(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return await (self._overlays if self._shows_overlays else self._disks).answer(arguments)
