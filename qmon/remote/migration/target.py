"""A connection to a QEMU as a Target that can also move the guest with its disks to another QEMU."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from typing import Any

from qmon.errors import CommandError, ProblemsError, QmonError, reason
from qmon.host.exposure import Exposure
from qmon.notation.address import Address, parse_address
from qmon.notation.plain_text import one_line
from qmon.qmp.events import EventBus
from qmon.qmp.target import Arguments, Event, Listener
from qmon.remote.address import RemoteAddress
from qmon.remote.migration.agreement.inventory import take_inventory
from qmon.remote.migration.agreement.sides import wrong_here
from qmon.remote.migration.destination.destination import Destination
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.qemu import Qemu
from qmon.remote.migration.rates.settings import Settings, described
from qmon.remote.migration.recovery.holding import BUSY, FORBIDDEN, why_not_run
from qmon.remote.migration.recovery.leftovers import remove_leftovers
from qmon.remote.migration.recovery.record import lives, read_record
from qmon.remote.migration.security import Credentials, make_secure
from qmon.remote.migration.side import NOTICE
from qmon.remote.migration.source.source import Source
from qmon.remote.remote import BACK, Remote
from qmon.remote.secured import Secure

MOVE = "x-qmon-migrate-disks"
LISTEN = "x-qmon-migrate-incoming"
RESOLVE = "x-qmon-migrate-resolve"
CLOSE_SECONDS = 0.1
"""How often a console that leaves looks how far its migration is."""
ENDING_SECONDS = 1.0
"""How long a QEMU that has closed the connection may take to end."""
_OURS = frozenset({MOVE, RESOLVE, "x-qmon-query-migrate-settings"})


class MigratingTarget:
    """A Remote (``qmon.remote.remote``): a connection, and this console's side of a migration."""

    def __init__(
        self,
        connection: Remote,
        exposure: Exposure | None = None,
        credentials: Credentials | None = None,
        *,
        is_destination: bool = False,
    ) -> None:
        """``is_destination``: whether this console may listen; else migrate_incoming is the QEMU's own."""
        self._ours = _OURS | {LISTEN} if is_destination else _OURS
        self._connection = connection
        self._exposure = exposure or Exposure()
        self._credentials = credentials
        self._bus = EventBus()
        self._source: Source | None = None
        self._destination: Destination | None = None
        self.has_record = False
        """Whether ``take_up`` has found that a migration is under way here, or perhaps is."""
        self._moving: asyncio.Task[None] | None = None
        self._meeting: asyncio.Task[None] | None = None
        self._settings = Settings()
        connection.subscribe(self._hear)

    # The connection

    @property
    def address(self) -> RemoteAddress:
        return self._connection.address

    @property
    def ended(self) -> asyncio.Event:
        return self._connection.ended

    @property
    def version(self) -> Mapping[str, Any]:
        return self._connection.version

    @property
    def why_lost(self) -> str:
        return self._connection.why_lost

    @property
    def reconnects(self) -> bool:
        return self._connection.reconnects

    @reconnects.setter
    def reconnects(self, value: bool) -> None:
        self._connection.reconnects = value

    async def open(self) -> None:
        await self._connection.open()

    def commands(self) -> frozenset[str]:
        return self._connection.commands() | self._ours

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self._bus.subscribe(listener)

    def _hear(self, event: Event) -> None:
        if event.name == BACK:
            self._meeting = asyncio.create_task(self._meet_again())
        if event.name == "MIGRATION" and self._side is not None:
            return  # ours tells of the whole
        self._bus.pass_on(event)

    def _emit(self, name: str, data: dict[str, Any]) -> None:
        self._bus.emit(name, data, private=True)

    async def _meet_again(self) -> None:
        """Begin anew if another QEMU has been started at the address."""
        try:
            has_record = await read_record(self._connection) is not None
            state = await Qemu(self._connection).run_state()
            if has_record or (self._side is not None and self._side.phase is Phase.NONE):
                return
            if self._source is not None and not self._is_busy and state != "postmigrate":
                self._source = None
            if self._destination is not None and state == "inmigrate":
                await self._listen_again(self._destination)
        except CommandError as error:
            self._notice(f"This console waits for no guest any more: {reason(error)}")

    async def _listen_again(self, former: Destination) -> None:
        """Raises CommandError."""
        uri, self._destination = former.where, None
        await former.leave_ended_qemu()
        await self._listen(uri)
        self._notice(f"A new QEMU: waits again at {uri}")

    def _notice(self, message: str) -> None:
        self._emit(NOTICE, {"message": message})

    async def close(self) -> None:
        """Call off what can be called off, and leave."""
        if self._source is not None and self._moving is not None:
            await self._leave(self._source, self._moving)
        if self._meeting is not None:
            await asyncio.wait([self._meeting])
        if self._destination is not None:
            await self._destination.close()
        await self._connection.close()

    async def _leave(self, source: Source, moving: asyncio.Task[None]) -> None:
        with contextlib.suppress(CommandError):
            source.cancel()
        loop = asyncio.get_running_loop()
        since = loop.time()
        while not moving.done():
            # Whoever is asked in doubt may never answer: a later console goes on by the record.
            is_lost = self._connection.ended.is_set() and not self._connection.peer_has_ended
            if source.phase is Phase.DOUBT or (is_lost and loop.time() > since + ENDING_SECONDS):
                break
            await asyncio.wait([moving], timeout=CLOSE_SECONDS)
        moving.cancel()  # once: what it has made on this host is removed then
        await asyncio.wait([moving])

    @property
    def _side(self) -> Source | Destination | None:
        return self._source or self._destination

    # Commands

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        given = dict(arguments or {})
        match command:
            case "x-qmon-migrate-disks":
                return await self._move(given)
            case "x-qmon-migrate-incoming":
                return await self._listen(str(given["uri"]))
            case "x-qmon-migrate-resolve":
                return await self._resolve(str(given["action"]))
            case "x-qmon-query-migrate-settings":
                return described()
            case "migrate-set-parameters":
                return await self._set_parameters(given)
            case "query-migrate-parameters":
                return await self._parameters()
            case "query-migrate" if self._side is not None:
                return await self._query()
            case "migrate_cancel" if self._source is not None and self._source.phase.is_under_way:
                self._source.cancel()
                return {}
            case "cont":
                await self._check_cont(force=bool(given.pop("x-qmon-force", False)))
            case _ if command in FORBIDDEN and self._is_busy:
                raise CommandError(BUSY)
        return await self._connection.execute(command, given or None)

    @property
    def _is_busy(self) -> bool:
        side = self._side
        return side is not None and side.phase.is_under_way

    async def _check_cont(self, *, force: bool) -> None:
        """Raises CommandError if the guest must not run on this side."""
        state = await self._connection.execute("query-status")
        where, phase, peer = "", None, ""
        if self._source is not None:
            where, phase, peer = "source", self._source.phase, self._source.uri
        elif self._destination is not None:
            where, phase = "destination", self._destination.phase
        why = why_not_run(where, phase, str(state["status"]), peer, force=force)
        if why is not None:
            raise CommandError(why)

    async def execute_out_of_band(self, command: str, arguments: Arguments | None = None) -> Any:
        return await self._connection.execute_out_of_band(command, arguments)

    @property
    def takes_out_of_band(self) -> bool:
        return self._connection.takes_out_of_band

    @property
    def can_pass_descriptors(self) -> bool:
        return self._connection.can_pass_descriptors

    async def pass_descriptor(self, name: str, descriptor: int) -> None:
        await self._connection.pass_descriptor(name, descriptor)

    def duplicate(self) -> socket.socket | None:
        return self._connection.duplicate()

    @property
    def peer_pid(self) -> int | None:
        return self._connection.peer_pid

    @property
    def peer_has_ended(self) -> bool:
        return self._connection.peer_has_ended

    async def take_up(self) -> str:
        """Take up what a console that has ended left in the QEMU.

        Return a line about it, "" if there is nothing. Raises CommandError.
        """
        if self._side is not None:
            return ""
        self.has_record = True
        record = await read_record(self._connection)
        if record is None:
            self.has_record = False
            found = await remove_leftovers(Qemu(self._connection))
            return f"Removed what a migration had left in this QEMU: {found}" if found else ""
        if lives(record.console):
            return (
                f"Another qmon (process {record.console.get('pid')}) is moving this guest: leave that to it"
            )
        address = _address(record.peer)
        if record.side == "source":
            secure = await self._secure(address, is_server=False, before=record.parameters)
            source = Source(self._connection, record.peer, address, self._emit, inc=False, secure=secure)
            event = await source.take_up(record)
            self._source = source
            self._moving = asyncio.create_task(source.run(event))
        else:
            secure = await self._secure(address, is_server=True, before=record.parameters)
            destination = Destination(self._connection, address, self._emit, self._exposure, secure)
            try:
                destination.open()
            except QmonError as error:
                raise CommandError(f"{record.peer}: {reason(error)}") from error
            self._destination = destination
            await destination.take_up(record)
        return f"An earlier console left a migration here: this machine is its {record.side}"

    async def _secure(
        self, address: Address, *, is_server: bool, before: Mapping[str, Any] | None = None
    ) -> Secure | None:
        """Return the TLS of the connections between the consoles. Raises CommandError.

        ``before`` are parameters as they were before a migration that is under way.
        """
        parameters = await self._connection.execute("query-migrate-parameters")
        try:
            return make_secure(
                self._credentials, {**parameters, **(before or {})}, address, is_server=is_server
            )
        except CommandError:
            raise
        except QmonError as error:
            raise CommandError(reason(error)) from error

    async def _set_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Set QEMU's parameters and ours; a migration that runs follows them."""
        others = self._settings.take(given, self._source.pacing.why_not if self._source else None)
        if others:
            await self._connection.execute("migrate-set-parameters", others)
        return {}

    async def _parameters(self) -> dict[str, Any]:
        """Return QEMU's parameters as the person has set them, and ours."""
        found = await self._connection.execute("query-migrate-parameters")
        ours = {} if self._source is None else self._source.pacing.set_aside
        return {**found, **ours, **self._settings.values}

    async def _move(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if self._source is not None and self._source.phase.is_under_way:
            raise CommandError(BUSY)
        uri = str(given["uri"])
        inc = bool(given.get("inc"))
        address = _address(uri)
        secure = await self._secure(address, is_server=False)
        has_tls = secure is not None
        await asyncio.to_thread(self._exposure.check_connecting, address, "the migration", has_tls=has_tls)
        begun: list[Source] = []

        def emit(name: str, data: dict[str, Any]) -> None:
            if begun:  # a trial or a refusal is the answer to the person's line, and no event
                self._emit(name, data)

        source = Source(self._connection, uri, address, emit, inc=inc, settings=self._settings, secure=secure)
        try:
            plan = await source.agree()
        except asyncio.CancelledError:
            await source.leave()
            raise
        except ProblemsError as error:
            await source.leave()
            if given.get("trial"):
                return {"x-qmon-peer": uri, "mismatches": list(error.problems), "warnings": []}
            raise CommandError(str(error)) from error
        except QmonError as error:
            await source.leave()
            raise CommandError(reason(error)) from error
        if given.get("trial"):
            await source.leave()
            disks = [
                {"drive": each.source.name, "data": each.source.size, "matched-by": each.by}
                for each in plan.pairs
            ]
            return {
                "x-qmon-peer": uri,
                "mismatches": [],
                "warnings": list(plan.warnings),
                "x-qmon-disks": disks,
                "left": list(plan.left_behind),
                "empty": list(plan.empty),
            }
        self._source = source
        begun.append(source)
        self._emit("MIGRATION", {"status": "setup", "x-qmon-waits": False})
        self._moving = asyncio.create_task(source.run())
        return {"warnings": list(plan.warnings), "empty": list(plan.empty)}

    async def _listen(self, uri: str) -> dict[str, Any]:
        if self._destination is not None:
            raise CommandError(f"This console listens at {self._destination.where} already")
        if wrong := list(wrong_here(await take_inventory(self._connection))):
            raise CommandError("\n".join(map(one_line, wrong)))
        address = _address(uri)
        secure = await self._secure(address, is_server=True)
        destination = Destination(self._connection, address, self._emit, self._exposure, secure)
        try:
            destination.open()
        except QmonError as error:
            raise CommandError(reason(error)) from error
        self._destination = destination
        return {}

    async def _resolve(self, action: str) -> dict[str, Any]:
        side = self._side
        if action not in ("keep", "release"):
            raise CommandError(f"Parameter 'action' expects keep or release, found '{one_line(action)}'")
        if isinstance(side, Destination):
            await side.resolve(action)
        elif side is not None:
            side.resolve(action)
        else:
            raise CommandError("there is nothing to resolve: no migration is in doubt")
        return {}

    async def _query(self) -> dict[str, Any]:
        if self._source is not None:
            source = self._source
            info = await source.figures()
            info |= {"x-qmon-side": "source", "x-qmon-id": source.id, "x-qmon-peer": source.uri}
            info["x-qmon-waits"] = False
            if source.reason and info["status"] in ("failed", "cancelled", "device"):
                info["error-desc"] = source.reason
            return info
        destination = self._destination
        assert destination is not None
        info = {**destination.info, "x-qmon-side": "destination", "x-qmon-waits": False}
        if destination.is_open:
            info["socket-address"] = [destination.socket_address]
        if destination.peer:
            info["x-qmon-peer"] = destination.peer
        if destination.phase.value != "none":
            info["status"] = destination.phase.status
        if destination.reason and destination.phase.status in ("failed", "device"):
            info["error-desc"] = destination.reason
        return info


def _address(uri: str) -> Address:
    """Read ``tcp:HOST:PORT`` or ``unix:PATH``. Raises CommandError."""
    if not uri.startswith(("tcp:", "unix:")):
        raise CommandError("Parameter 'uri' expects tcp:HOST:PORT or unix:PATH")
    try:
        return parse_address(uri)
    except QmonError as error:
        raise CommandError(reason(error)) from error
