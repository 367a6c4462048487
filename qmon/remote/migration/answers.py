"""The destination's half of all comparisons: its console answers what the source's asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from qmon.remote.migration.message import Members
from qmon.remote.migration.overlays import OVERLAYS, OVERLAYS_END, OVERLAYS_MAX, OverlaysShown
from qmon.remote.migration.private_server import PrivateServer
from qmon.remote.migration.verification import COMPARE
from qmon.remote.migration.views import DIGESTS, Views
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

    @property
    def before(self) -> Requests:
        """The requests that are possible before anything is copied."""
        return {OVERLAYS: self._show_overlays, OVERLAYS_END: self._end_overlays}

    @property
    def during(self) -> Requests:
        """The requests that are possible while the disks are exported."""
        return {COMPARE: self._compare}

    @property
    def always(self) -> Requests:
        return {DIGESTS: self._digests}

    async def close(self) -> None:
        """End all connections, and the server of the overlays; idempotent. Raises CommandError."""
        self._shows_overlays = False
        await self._disks.close()
        await self._overlays.close()
        await self._overlays.server.stop()

    async def _show_overlays(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        await self.close()
        await self._overlays.server.start()
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
