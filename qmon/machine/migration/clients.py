"""The clients for whom a source works on after the migration, and those whom a destination serves so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from qmon.host.logs import TOLD_BY_EVENT
from qmon.machine.exports import Exports
from qmon.machine.machine import Machine
from qmon.migration.destination.incoming import Incoming
from qmon.migration.source.forwarding import LEFT
from qmon.migration.source.outgoing import Source

log = logging.getLogger("qmon.machine")

FORWARDING = "X_QMON_MIGRATION_FORWARDING"


class ForwardedClients:
    """For the loop, except where it says otherwise. ``source`` and ``incoming`` return the migrations."""

    def __init__(
        self,
        machine: Machine,
        exports: Exports,
        source: Callable[[], Source | None],
        incoming: Callable[[], Incoming | None],
    ) -> None:
        self._machine = machine
        self._exports = exports
        self._source = source
        self._incoming = incoming
        self._told: int | None = None
        """How many clients there were last; None while no requests are forwarded."""
        self.turned_away: dict[str, int] = {}
        """By export: the clients that were disconnected at the handover."""
        exports.watch_clients(self.look)

    def count(self) -> int:
        """Return how many clients there are whose requests could be forwarded. For any thread."""
        return self._exports.count_clients() + self._upstream

    @property
    def _upstream(self) -> int:
        """The clients of a source from which the disks have come here: they would go on with them."""
        incoming = self._incoming()
        forwarded = None if incoming is None else incoming.forwarded
        return 0 if forwarded is None else max(1, forwarded.clients)

    @property
    def is_active(self) -> bool:
        """Whether requests are forwarded to the destination."""
        source = self._source()
        return source is not None and source.forwarding.is_active

    @property
    def _clients(self) -> int:
        return self._exports.count_clients(moved=True) + self._upstream

    def handed_over(self) -> None:
        """The destination is told to run."""
        self.turned_away = self._exports.clients()

    def begun(self) -> None:
        """The migration has completed: tell of the clients that stay, and disconnect those that can't."""
        if self.is_active:
            self.turned_away = {}
            self._told = self._clients
            self._emit(active=True)
            self.look()
            return
        for name, clients in self._exports.clients().items():
            self.turned_away[name] = max(clients, self.turned_away.get(name, 0))
        self._drop()

    def _drop(self) -> None:
        self._exports.drop_clients()
        incoming = self._incoming()
        if incoming is not None and incoming.forwarded is not None:
            incoming.forwarded.stop()

    def changed(self) -> None:
        """The clients of a source may have come or gone. For any thread."""
        self._machine.post(self.look)

    def look(self) -> None:
        """Tell the destination of a change; end the forwarding when the last client has left."""
        source = self._source()
        if source is None or not source.forwarding.is_active or self._told is None:
            return
        count, before, self._told = self._clients, self._told, self._clients
        if not count:
            self._machine.later(source.forwarding.stop, LEFT)
        elif count != before:
            self._machine.later(source.forwarding.count, count)

    def ended(self, why: str) -> None:
        """Forwarding has ended. For any thread."""
        self._machine.post(lambda: self._ended(why))

    def _ended(self, why: str) -> None:
        clients, self._told = self._clients, None
        self._drop()
        self._emit(active=False, reason=why)
        source = self._source()
        peer = "the destination" if source is None else source.peer
        if clients and why != LEFT:
            text = "requests of %d client%s are not forwarded to %s any more: %s"
            log.error(f"migration: {text}", clients, "s" * (clients != 1), peer, why, extra=TOLD_BY_EVENT)
        else:
            log.info(
                "migration: no requests are forwarded to %s any more: %s", peer, why, extra=TOLD_BY_EVENT
            )

    async def cut_off(self, why: str) -> None:
        """End the forwarding because the disks come back, and wait until all its clients have gone."""
        source = self._source()
        if source is not None and source.forwarding.is_active:
            await self._machine.blocking(source.forwarding.stop, why)
            await self._machine.blocking(self._exports.cut_off_clients)

    def _emit(self, *, active: bool, reason: str = "") -> None:
        data: dict[str, Any] = {"active": active, "clients": self._clients}
        if reason:
            data["reason"] = reason
        self._machine.registry.events.emit(FORWARDING, data)

    def sent_on(self) -> dict[str, Any]:
        """Return what query-migrate tells of a source that forwards, {} if it does not."""
        source = self._source()
        if source is None or not source.forwarding.is_active:
            return {}
        done, in_flight = source.forwarding.requests
        return {"clients": self._clients, "requests": done, "in-flight": in_flight}

    def served_here(self) -> dict[str, Any]:
        """Return what query-migrate tells of a destination that serves forwarded requests, {} if none."""
        incoming = self._incoming()
        forwarded = None if incoming is None else incoming.forwarded
        if forwarded is None:
            return {}
        return {
            "clients": forwarded.clients,
            "requests": forwarded.requests,
            "in-flight": forwarded.in_flight,
            "source": forwarded.peer,
        }
