"""The connections that come from a source: the one between the consoles, the disks' and the memory's."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError, QmonError
from qmon.notation.plain_text import one_line
from qmon.remote.migration.destination.incoming import Incoming
from qmon.remote.migration.destination.requests import Requests
from qmon.remote.migration.destination.steps import Steps
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.report import read_figures
from qmon.remote.migration.states import Event
from qmon.remote.migration.wire.channel import Channel, open_channel
from qmon.remote.migration.wire.first_line import CONTROL, DISK, answer

UNDO_SECONDS = 10.0
"""How long a console that ends waits until its QEMU is as before."""


class Connections:
    """Takes each connection that belongs to the migration, and acts when the source is lost."""

    def __init__(self, incoming: Incoming, steps: Steps, requests: Requests) -> None:
        self._incoming = incoming
        self._steps = steps
        self._requests = requests
        self._channel: Channel | None = None
        self._taking = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_linked(self) -> bool:
        """Whether the source's console is there."""
        return self._channel is not None and not self._channel.lost.is_set()

    @property
    def why_lost(self) -> str:
        """Why the source's console is not there."""
        return "the console here was started anew" if self._channel is None else self._channel.why

    async def take(self, sock: socket.socket, line: dict[str, Any], who: str) -> None:
        """Take a connection by its first line from a peer. Raises QmonError, OSError, TimeoutError."""
        if line["connection"] == CONTROL:
            async with self._taking:
                await self._take_control(sock, line["id"], who)
            return
        if line["id"] != self._incoming.id or self._steps.phase is not Phase.COPYING:
            raise QmonError("no migration waits for this connection")
        if line["connection"] == DISK:
            await self._incoming.lines.take_disk(sock, line.get("export", ""))
        else:
            await self._incoming.lines.take_memory(sock)

    async def close(self, why: str) -> None:
        """End the connection to the source; what its loss leads to is done."""
        if self._channel is not None:
            await self._channel.close(why)
        if self._watching is not None:  # it takes back what the loss of the connection ends
            await asyncio.wait([self._watching], timeout=UNDO_SECONDS)
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def _take_control(self, sock: socket.socket, id_: str, who: str) -> None:
        incoming = self._incoming
        if id_ != incoming.id:
            if self._steps.phase not in (Phase.NONE, Phase.FAILED):
                raise QmonError(self._busy())
            if self.is_linked:
                raise QmonError("another migration comes in already")
        elif self._channel is not None:
            await self._channel.close("its source has connected again")
        await answer(sock)
        incoming.peer = who
        if self._watching is not None:  # an earlier source's loss may still be taken back
            await asyncio.wait([self._watching])
        if id_ != incoming.id:
            incoming.id, incoming.figures, incoming.side.reason = id_, {}, ""
            await self._steps.try_(Event.START)
        self._channel = await open_channel(sock, functools.partial(self._requests.answer, id_), self._hear)
        self._watching = asyncio.create_task(self._watch(self._channel))

    def _busy(self) -> str:
        if self._steps.phase is Phase.REFUSED:
            return "the QEMU at the destination is used up by an earlier migration: start it anew"
        return "the QEMU at the destination has another migration"

    async def _watch(self, channel: Channel) -> None:
        await channel.lost.wait()
        if self._channel is not channel:
            return
        with contextlib.suppress(CommandError):  # a later undoing tells what is wrong with the QEMU
            await self._incoming.answers.close()
        side = self._incoming.side
        if self._steps.phase in (Phase.SETUP, Phase.COPYING) and not side.reason:
            side.reason = f"the connection to the source was lost: {channel.why}"
        await self._steps.try_(Event.LOST)

    def _hear(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "figures":
            self._incoming.figures = read_figures(data)
        elif event == "notice":
            self._incoming.side.notice(one_line(str(data.get("message"))))
