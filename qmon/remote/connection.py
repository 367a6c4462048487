"""A connection as a Target. It is taken up again when it is lost; nothing is sent twice."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from qmon.errors import ConnectionLostError, QmonError
from qmon.host.peer_process import PeerProcess
from qmon.qmp.events import EventBus
from qmon.qmp.target import Arguments, Event, Listener
from qmon.remote.address import RemoteAddress
from qmon.remote.link import Link, OpenLink
from qmon.remote.remote import BACK, LOST

HMP = "human-monitor-command"

BACKOFF_FIRST_SECONDS = 0.25
BACKOFF_MOST_SECONDS = 5.0


class Connection:
    """A Remote (``qmon.remote.remote``) behind a link that is kept up."""

    def __init__(self, address: RemoteAddress, open_link: OpenLink) -> None:
        self.address = address
        self.ended = asyncio.Event()
        self.reconnects = False
        self.version: Mapping[str, Any] = {}
        self.why_lost = ""
        self._open_link = open_link
        self._bus = EventBus()
        self._commands: frozenset[str] = frozenset()
        self._link: Link | None = None
        self._peer: PeerProcess | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._shuts_down = False
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Connect. Raises QmonError in one line if that is not possible."""
        try:
            link = await self._connect()
        except QmonError as error:
            raise QmonError(f"-connect {self.address}: {error}") from error
        self._keeper = asyncio.create_task(self._keep(link))

    async def close(self) -> None:
        """Leave. What runs at the other end goes on."""
        self._closing.set()
        if self._keeper is not None:
            await self._keeper
        self._watch_no_more()
        self.ended.set()

    # A Target

    def commands(self) -> frozenset[str]:
        return self._commands

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self._bus.subscribe(listener)

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        """Run a command, after those that were sent before it.

        If the caller is cancelled, the command goes on, and later ones wait for it. So only one is ever on
        its way, and a command out of band is never behind a full queue.
        """
        return await self._in_turn(lambda: self._execute(command, arguments))

    async def pass_descriptor(self, name: str, descriptor: int) -> None:
        """Give a copy of a file descriptor to QEMU, in turn with the commands (QMP: getfd).

        QEMU knows it by the name from then on. Raises CommandError, also where it is not possible.
        """
        await self._in_turn(lambda: self._pass_descriptor(name, os.dup(descriptor)))

    async def _pass_descriptor(self, name: str, copy: int) -> None:
        """The caller may have gone, and closed its descriptor: so this is a copy."""
        try:
            await self._connected().pass_descriptor(name, copy)
        finally:
            os.close(copy)

    async def _in_turn(self, start: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        await self._turn.acquire()
        try:
            task = asyncio.create_task(start())
        except BaseException:
            self._turn.release()
            raise
        task.add_done_callback(self._end_turn)
        return await asyncio.shield(task)

    def _end_turn(self, task: asyncio.Task[Any]) -> None:
        self._turn.release()
        if not task.cancelled():
            task.exception()  # its caller may have gone

    async def execute_out_of_band(self, command: str, arguments: Arguments | None = None) -> Any:
        """Run a command at once, although another one runs. Raises CommandError if that is not possible."""
        return await self._execute(command, arguments, oob=True)

    async def _execute(self, command: str, arguments: Arguments | None, *, oob: bool = False) -> Any:
        link = self._connected()
        try:
            return await link.execute(command, arguments, oob=oob)
        except ConnectionLostError:
            if _ends(command, arguments):
                return "" if command == HMP else {}
            raise

    def _connected(self) -> Link:
        """Return the link. Raises ConnectionLostError."""
        if self._link is None:
            raise ConnectionLostError(f"not connected to {self.address}: {self.why_lost}: nothing was sent")
        return self._link

    # The connection itself

    @property
    def takes_out_of_band(self) -> bool:
        """Whether ``execute_out_of_band`` is possible now."""
        return self._link is not None and self._link.takes_out_of_band

    @property
    def can_pass_descriptors(self) -> bool:
        """Whether ``pass_descriptor`` is possible now."""
        return self._link is not None and self._link.can_pass_descriptors

    def duplicate(self) -> socket.socket | None:
        """Return a copy of the socket, which keeps the connection up as long as it is open; None without one.

        Only one program may read it at a time.
        """
        return None if self._link is None else self._link.duplicate()

    @property
    def peer_pid(self) -> int | None:
        """The process at the other end, or the last one that was there; None if that is not certain."""
        return None if self._peer is None else self._peer.pid

    @property
    def peer_has_ended(self) -> bool:
        """Whether that process has ended, for certain. False also if it is not known."""
        return self._peer is not None and self._peer.has_ended

    def _watch(self, peer: PeerProcess | None) -> None:
        """Watch the process of a new link."""
        self._watch_no_more()
        self._peer = peer

    def _watch_no_more(self) -> None:
        """Keep what is known of the process."""
        if self._peer is not None:
            self._peer.close()

    # Connecting

    async def _connect(self) -> Link:
        """Connect and learn the commands. Raises QmonError."""
        link = await self._open_link(self._hear)
        self._commands = link.commands
        self.version = link.version
        self._watch(link.peer)
        self._shuts_down = False
        self.why_lost = ""
        self._link = link
        return link

    async def _keep(self, link: Link | None) -> None:
        """Wait until the connection is lost for good or closed; connect again where that is wanted."""
        while link is not None:
            why = await self._until_lost(link)
            self._link, self.why_lost = None, why
            if self._closing.is_set():
                break
            ended = self._shuts_down or not self.reconnects
            told = {"address": str(self.address), "reason": why, "ended": ended}
            self._tell(LOST, {**told, "shut-down": self._shuts_down})
            if ended:
                break
            link = await self._reconnect()
            if link is not None:
                self._tell(BACK, {"address": str(self.address)})
        self.ended.set()

    async def _until_lost(self, link: Link) -> str:
        """Wait until the connection is lost or is to be closed; return the reason."""
        why = "it is closed"
        waiting = asyncio.create_task(link.wait_ended())
        if await self._unless_closed(waiting):
            why = waiting.result()
        await link.close()
        return why

    async def _unless_closed(self, task: asyncio.Task[Any]) -> bool:
        """Wait for a task or for ``close``, which cancels it; return whether the task is done."""
        closing = asyncio.create_task(self._closing.wait())
        await asyncio.wait([task, closing], return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.wait([task])
        return False

    def _hear(self, event: Event) -> None:
        if event.name in ("SHUTDOWN", "RESET", "RESUME"):  # with -no-shutdown it may run again
            self._shuts_down = event.name == "SHUTDOWN"
        self._bus.pass_on(event)

    def _tell(self, name: str, data: dict[str, Any]) -> None:
        self._bus.emit(name, data, private=True)

    async def _reconnect(self) -> Link | None:
        """Try to connect, less and less often; return None if the connection is closed meanwhile."""
        wait = BACKOFF_FIRST_SECONDS
        while await self._unless_closed(asyncio.create_task(asyncio.sleep(wait))):
            wait = min(wait * 2, BACKOFF_MOST_SECONDS)
            try:
                if await self._unless_closed(asyncio.create_task(self._connect())):
                    return self._link
            except QmonError as error:
                self.why_lost = str(error)
        return None


def _ends(command: str, arguments: Arguments | None) -> bool:
    """Whether a command ends the other program, which may then close the connection without an answer."""
    line = str((arguments or {}).get("command-line"))
    return command == "quit" or (command == HMP and line.split() in (["quit"], ["q"]))
