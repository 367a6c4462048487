"""The monitor of a libvirt domain: libvirt holds it, and passes commands and events on.

libvirt gives the commands its own ids, runs one at a time and none out of band. It marks the domain as
tainted ("custom monitor control commands").
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from qmon.errors import CommandError, CommandNotFoundError, ConnectionLostError, QmonError
from qmon.notation.plain_text import one_line
from qmon.qmp.target import Arguments, Event
from qmon.remote.address import Domain
from qmon.remote.client import check_sendable
from qmon.remote.libvirt_library import Caller, Library
from qmon.remote.link import Hear, NoDescriptors, lost, no_out_of_band

_LISTED = 10
"""How many domains an error names."""
_TAINT = "libvirt marks the domain as tainted from now on, because commands bypass it"
_TOLD_SECONDS = 3.0
_CLOSE_SECONDS = 2.0
_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT = 5, 3


class LibvirtLink(NoDescriptors):
    """A Link (``qmon.remote.link``) to a domain's monitor."""

    def __init__(self, library: Library, caller: Caller, hear: Hear) -> None:
        self.version: Mapping[str, Any] = {}
        self.commands: frozenset[str] = frozenset()
        self.taints = False
        """Whether the domain was not yet marked as one that gets monitor commands from elsewhere."""
        self._library = library
        self._caller = caller
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._connection: Any = None
        self._domain: Any = None
        self._name = ""
        self._is_over = asyncio.Event()
        """Set when QEMU shuts down or the connection ends."""
        self._registered: list[Callable[[], None]] = []

    async def execute(self, command: str, arguments: Arguments | None, *, oob: bool = False) -> Any:
        check_sendable(command, arguments or {})
        if oob:
            raise no_out_of_band(command)
        if self._ended.done():
            raise ConnectionLostError(self._ended.result())
        message = {"execute": command, **({"arguments": dict(arguments)} if arguments else {})}
        text = json.dumps(message)
        try:
            answer = await self._caller.run(
                lambda: self._library.qemu.qemuMonitorCommand(self._domain, text, 0)
            )
        except self._library.libvirt.libvirtError as error:
            if await self._has_ended():
                raise lost(f"the domain '{self._name}'") from error
            raise CommandError(_reason(error)) from error
        return _result(command, answer)

    async def wait_ended(self) -> str:
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        self._end("the connection is closed")
        with contextlib.suppress(TimeoutError):  # a call hangs: it ends with the process
            await asyncio.wait_for(self._caller.run(self._disconnect), _CLOSE_SECONDS)
        self._caller.end()

    async def open(self, uri: str | None, name: str) -> None:
        """Find the domain. Raises QmonError."""
        try:
            await self._caller.run(lambda: self._connect(uri, name))
            self.version = await self.execute("query-version", None)
            names = await self.execute("query-commands", None)
        except self._library.libvirt.libvirtError as error:
            raise QmonError(f"libvirt: {_reason(error)}") from error
        self.commands = frozenset(str(each["name"]) for each in names)

    def _connect(self, uri: str | None, name: str) -> None:
        libvirt = self._library.libvirt
        self._connection = connection = libvirt.open(uri)
        with contextlib.suppress(libvirt.libvirtError):  # a driver without a connection needs none
            connection.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT)
        self._domain = domain = find_domain(libvirt, connection, name)
        self._name = one_line(domain.name())
        with contextlib.suppress(libvirt.libvirtError, AttributeError):  # libvirt before 7.1
            marks = domain.messages(libvirt.VIR_DOMAIN_MESSAGE_TAINTING)
            self.taints = not any("monitor" in each for each in marks)
        event = self._library.qemu.qemuMonitorEventRegister(connection, domain, None, self._take, None, 0)
        self._registered.append(lambda: self._library.qemu.qemuMonitorEventDeregister(connection, event))
        life = connection.domainEventRegisterAny(
            domain, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._take_lifecycle, None
        )
        self._registered.append(lambda: connection.domainEventDeregisterAny(life))
        connection.registerCloseCallback(lambda *_: self._end_soon("libvirt closed the connection"), None)
        self._registered.append(connection.unregisterCloseCallback)

    def _disconnect(self) -> None:
        for undo in self._registered:
            with contextlib.suppress(self._library.libvirt.libvirtError):  # the connection is lost
                undo()
        self._registered.clear()
        if self._connection is not None:
            with contextlib.suppress(self._library.libvirt.libvirtError):
                self._connection.close()
        self._connection = self._domain = None

    async def _has_ended(self) -> bool:
        """Whether a call has failed because the domain or the connection is gone.

        libvirt tells of that later than the call fails.
        """
        try:
            await asyncio.wait_for(self._is_over.wait(), _TOLD_SECONDS)
        except TimeoutError:
            return False
        return True

    # On the thread of libvirt's events

    def _take(
        self, connection: Any, domain: Any, name: str, seconds: int, micros: int, details: str | None, _: Any
    ) -> None:
        data = json.loads(details) if details else {}
        if name == "SHUTDOWN":
            self._soon(self._is_over.set)
        self._soon(self._hear, Event(name, data if isinstance(data, dict) else {}, seconds + micros / 1e6))

    def _take_lifecycle(self, connection: Any, domain: Any, event: int, detail: int, _: Any) -> None:
        if event in (
            self._library.libvirt.VIR_DOMAIN_EVENT_STOPPED,
            self._library.libvirt.VIR_DOMAIN_EVENT_CRASHED,
        ):
            self._end_soon("the domain has ended")

    def _end_soon(self, why: str) -> None:
        self._soon(self._end, why)

    def _soon(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    def _end(self, why: str) -> None:
        self._is_over.set()
        if not self._ended.done():
            self._ended.set_result(why)


async def open_libvirt(domain: Domain, hear: Hear, tell: Callable[[str], None]) -> LibvirtLink:
    """Connect to a domain; ``tell`` of its taint, if it is new. Without a URI libvirt chooses one.

    Raises QmonError.
    """
    library = Library.get()
    link = LibvirtLink(library, Caller(), hear)
    try:
        await link.open(domain.uri or None, domain.name)
        if link.taints:
            tell(f"libvirt:{domain}: {_TAINT}")
    except BaseException:
        await link.close()
        raise
    return link


def find_domain(libvirt: ModuleType, connection: Any, name: str) -> Any:
    """Return a running domain by its number, UUID or name, in this order, as virsh does. Raises QmonError."""
    lookups = [connection.lookupByUUIDString, connection.lookupByName]
    if name.isascii() and name.isdecimal():
        lookups.insert(0, lambda text: connection.lookupByID(int(text)))
    for look_up in lookups if name else ():
        try:
            domain = look_up(name)
        except libvirt.libvirtError:  # the next way is tried
            continue
        if not domain.isActive():
            raise QmonError(f"the domain '{name}' is not running: start it with 'virsh start {name}'")
        return domain
    domains = sorted(one_line(each.name()) for each in connection.listAllDomains() if each.isActive())
    shown = ", ".join(domains[:_LISTED]) + (", ..." if len(domains) > _LISTED else "")
    wrong = f"there is no domain '{name}'" if name else "no domain is named"
    raise QmonError(
        f"{wrong} at {connection.getURI()}: {f'running are {shown}' if domains else 'none is running'}"
    )


def _result(command: str, answer: str) -> Any:
    """Return the result in an answer of QEMU. Raises CommandError."""
    try:
        message = json.loads(answer)
    except ValueError as error:
        raise CommandError("libvirt's answer is no JSON") from error
    if not isinstance(message, dict) or "error" not in message:
        return message["return"] if isinstance(message, dict) and "return" in message else {}
    found = message["error"]
    desc, kind = str(found.get("desc", "")), str(found.get("class", ""))
    if kind == CommandNotFoundError.error_class:
        raise CommandNotFoundError(one_line(command))
    raise CommandError(desc, kind)


def _reason(error: Any) -> str:
    return one_line(str(error.get_error_message() or "the call failed").strip().splitlines()[0])
