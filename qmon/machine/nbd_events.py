"""Events of the NBD server: clients that connect and disconnect, and requests that fail.

BLOCK_IO_ERROR is QAPI's (block-core.json); the events about clients are qmon's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from qmon.errors import reason
from qmon.machine.drive import Drive
from qmon.machine.machine import Machine
from qmon.nbd.server import ClientInfo, NbdServer

CONNECTED, DISCONNECTED = "X_QMON_NBD_CLIENT_CONNECTED", "X_QMON_NBD_CLIENT_DISCONNECTED"

LOOK_SECONDS = 0.1
"""Seconds between a change and its events, so that a client that reconnects often emits few events."""

FAILURE_SECONDS = 1.0
"""Seconds between events for the same error of a drive: a guest may cause thousands per second."""

_ENOSPC = "No space left on device"


class NbdEvents:
    """Emits the events. Threads of connections may call the methods marked "for any thread"."""

    def __init__(self, machine: Machine, server: Callable[[], NbdServer | None]) -> None:
        """``server`` returns the current server, or None."""
        self.after_look: Callable[[], None] = lambda: None
        """Called when clients may have come or gone."""
        self._machine = machine
        self._server = server
        self._known: dict[tuple[NbdServer, int], ClientInfo] = {}
        self._timer: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """Report that the exports or clients have changed. For any thread."""
        self._machine.post(self._look_soon)

    def _look_soon(self) -> None:
        if self._timer is None:
            self._timer = self._machine.loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        server = self._server()
        now = {} if server is None else {(server, each.number): each for each in server.client_list()}
        for key in self._known.keys() - now.keys():
            self._emit(DISCONNECTED, self._known[key], len(now))
        for key in now.keys() - self._known.keys():
            self._emit(CONNECTED, now[key], len(now))
        self._known = now
        self.after_look()

    def _emit(self, name: str, client: ClientInfo, clients: int) -> None:
        data = {"export": client.export, "address": client.address, "clients": clients}
        self._machine.registry.events.emit(name, data)

    def failure_listener(self, drive: Drive) -> Callable[[bool, OSError], None]:
        """Return the function that an export of a drive calls when a request has failed. For any thread."""
        told: dict[tuple[bool, int | None], float] = {}

        def failed(is_read: bool, failure: OSError) -> None:
            now = time.monotonic()
            kind = (is_read, failure.errno)
            if now - told.get(kind, -FAILURE_SECONDS) >= FAILURE_SECONDS:
                told[kind] = now
                self._machine.post(lambda: self._emit_failure(drive, is_read, reason(failure)))

        return failed

    def _emit_failure(self, drive: Drive, is_read: bool, why: str) -> None:
        if self._timer is not None:  # the client's CONNECTED event must precede this one
            self._timer.cancel()
            self._look()
        data: dict[str, Any] = {
            "device": drive.id,
            "node-name": drive.names.top,
            "operation": "read" if is_read else "write",
            "action": "report",
            "nospace": why == _ENOSPC,
            "reason": why,
        }
        self._machine.registry.events.emit("BLOCK_IO_ERROR", data)
