"""A link that connects for each command and lets go, so that a manager gets the monitor, too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from qmon.errors import CommandError, ConnectionLostError, QmonError
from qmon.qmp.target import Arguments, Event
from qmon.remote.link import Hear, Link, NoDescriptors

OpenKnown = Callable[[Hear, frozenset[str]], Awaitable[Link]]
"""As ``OpenLink``; the second argument has the commands if they are known, so that they are not asked for."""


class BriefLink(NoDescriptors):
    """A Link (``qmon.remote.link``). Events are heard only while a command runs."""

    def __init__(self, open_link: OpenKnown, hear: Hear) -> None:
        self.version: Mapping[str, Any] = {}
        self.commands: frozenset[str] = frozenset()
        self._open_link = open_link
        self._pass_on = hear
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._shuts_down = False

    async def meet(self) -> None:
        """Learn the version and the commands. Raises QmonError."""
        link = await self._open_link(self._hear, frozenset())
        self.version, self.commands = link.version, link.commands
        self.takes_out_of_band = link.takes_out_of_band
        await _leave(link)

    async def execute(self, command: str, arguments: Arguments | None, *, oob: bool = False) -> Any:
        try:
            link = await self._open_link(self._hear, self.commands)
        except QmonError as error:
            raise CommandError(f"{error}: nothing was sent") from error
        try:
            return await link.execute(command, arguments, oob=oob)
        except ConnectionLostError:
            if self._shuts_down or command == "quit":
                self._end("it has ended")
            raise
        finally:
            await _leave(link)

    async def wait_ended(self) -> str:
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        self._end("it is closed")

    def _hear(self, event: Event) -> None:
        self._shuts_down = self._shuts_down or event.name == "SHUTDOWN"
        self._pass_on(event)

    def _end(self, why: str) -> None:
        if not self._ended.done():
            self._ended.set_result(why)


async def open_brief(open_link: OpenKnown, hear: Hear) -> BriefLink:
    """Connect once and let go. Raises QmonError."""
    link = BriefLink(open_link, hear)
    await link.meet()
    return link


async def _leave(link: Link) -> None:
    if link.peer is not None:
        link.peer.close()
    await link.close()
