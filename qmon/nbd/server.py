"""The NBD server: exports under names, a listener, and the clients.

One thread does all handshakes (``negotiation``). Then a client belongs to the loop of its disk
(``disk_loop``), or with TLS to a thread of its own, since OpenSSL's sockets have no way not to wait.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from qmon.block.gate import Gate
from qmon.errors import CommandError
from qmon.host import tls
from qmon.host.threads import start_thread
from qmon.host.tls_failures import explain
from qmon.host.trace import NBD_NEGOTIATE_SUCCESS
from qmon.nbd.clients import Client, ClientInfo
from qmon.nbd.connection import Connection
from qmon.nbd.constants import MAX_STRING
from qmon.nbd.disk_loop import DiskLoop
from qmon.nbd.export import Disk, Export
from qmon.nbd.handshake import Agreement, Handshake, ProtocolError
from qmon.nbd.limits import LIMITS, Limits
from qmon.nbd.negotiation import Negotiation, tell_refusal
from qmon.nbd.security import Security, secure

__all__ = ["ClientInfo", "Disk", "Export", "NbdServer"]

log = logging.getLogger("qmon.nbd")

_HANDSHAKE_PIECE = 4096
_GOODBYE_SECONDS = 0.25
"""How long to wait for clients that are just disconnecting before they count as users."""
_LEAVE_SECONDS = 5.0
"""How long to wait for a client that has closed its end, or has said goodbye, and has not been looked at."""


class NbdServer:
    """Serves exports to the clients of one listening socket, which it owns.

    Methods may be called from any thread except the server's own. Those that wait for threads say so.
    """

    def __init__(
        self,
        listener: socket.socket,
        max_connections: int = 0,
        on_change: Callable[[], None] | None = None,
        limits: Limits = LIMITS,
        security: Security | None = None,
    ) -> None:
        """``max_connections`` 0 means no limit; clients above it wait until one disconnects, as in QEMU.

        ``on_change`` is called, from any thread, when an export or a client is added or removed.
        With ``security`` clients can do nothing before they have started TLS.
        """
        self._listener = listener
        self._max_connections = max_connections
        self._on_change = on_change or (lambda: None)
        self._limits = limits
        self._security = security
        self._changed = threading.Condition()
        self._exports: Mapping[str, Export] = MappingProxyType({})
        self._clients: set[Client] = set()
        self._loops: dict[Gate, DiskLoop] = {}
        self._count = 0
        self._stopping = False
        self._negotiation = Negotiation(
            listener,
            self,
            lambda: Handshake(self.exports, needs_tls=security is not None),
            limits.handshake_seconds,
        )
        self._acceptor = threading.Thread(target=self._negotiation.run, name="nbd accept", daemon=True)

    def start(self) -> None:
        """Begin to accept clients. Raises OSError if no thread can be started."""
        start_thread(self._acceptor)

    def exports(self) -> Mapping[str, Export]:
        """The current exports by name."""
        return self._exports

    def add(self, export: Export) -> None:
        """Add an export. Raises CommandError as ``check``."""
        with self._changed:
            self.check(export)
            self._exports = MappingProxyType({**self._exports, export.name: export})
        self._on_change()

    def check(self, export: Export) -> None:
        """Raises CommandError for a name in use, or a name or description that is too long."""
        for what, text in (("export name", export.name), ("description", export.description)):
            if len(text.encode()) > MAX_STRING:
                raise CommandError(f"{what} '{text[:40]}...' too long: at most {MAX_STRING} bytes fit")
        if export.name in self._exports:
            raise CommandError(f"NBD server already has export named '{export.name}'")

    def remove(self, name: str, *, force: bool) -> None:
        """Remove an export; with ``force`` disconnect its clients and wait for their threads.

        Raises CommandError if there is no such export or, without ``force``, if clients use it.
        """
        with self._changed:
            if not force:
                self._see_off(self._get(name))
            export = self._get(name)
            users = self._users(export)
            if users and not force:
                raise CommandError(f"export '{name}' still in use")
            self._exports = MappingProxyType(
                {other: kept for other, kept in self._exports.items() if other != name}
            )
            for client in users:
                client.shutdown()
        self._wait_for(users)
        self._on_change()

    def drop(self, name: str) -> None:
        """Disconnect the clients of an export whose gate was shut because its disk has moved.

        Pending requests fail with ESHUTDOWN; then each connection closes. Does not wait.
        Raises CommandError if there is no such export.
        """
        with self._changed:
            for client in self._users(self._get(name)):
                client.shutdown(socket.SHUT_RD)

    def cut_off(self, name: str) -> None:
        """Disconnect the clients of an export at once, and wait until their threads have ended.

        Raises CommandError if there is no such export.
        """
        with self._changed:
            users = self._users(self._get(name))
            for client in users:
                client.shutdown()
        self._wait_for(users)

    def clients(self, name: str) -> int:
        """Return how many clients use an export. Raises CommandError if there is no such export."""
        with self._changed:
            return len(self._users(self._get(name)))

    def client_list(self) -> list[ClientInfo]:
        """Return the clients of all exports in the order in which they connected."""
        with self._changed:
            found = [client.describe(client.export) for client in self._clients if client.export is not None]
        return sorted(found, key=lambda info: info.number)

    def stop(self) -> None:
        """Close the listener and all connections; wait until all threads have ended."""
        with self._changed:
            is_first, self._stopping = not self._stopping, True
            clients = list(self._clients)
            for client in clients:
                client.shutdown()
        if is_first:
            self._negotiation.end()
            if self._acceptor.ident is not None:
                self._acceptor.join()
            self._negotiation.close()
        self._wait_for([*clients, *self._clients])
        self._close_listener()

    def _wait_for(self, clients: Iterable[Client]) -> None:
        """Wait until these clients have gone, and the threads that served them have ended."""
        leaving = set(clients)
        with self._changed:
            self._changed.wait_for(lambda: leaving.isdisjoint(self._clients))
            loops = list(self._loops.values())
        for loop in loops:
            loop.settle()
        for client in leaving:
            if client.thread is not None:
                client.thread.join()

    def _get(self, name: str) -> Export:
        try:
            return self._exports[name]
        except KeyError:
            raise CommandError(f"Export '{name}' is not found") from None

    def _users(self, export: Export) -> list[Client]:
        return [client for client in self._clients if client.export is export]

    def _see_off(self, export: Export) -> None:
        """Wait for the threads of clients that have just disconnected: they must not count as users."""
        began = time.monotonic()
        while users := self._users(export):
            all_leave = all(client.is_leaving() for client in users)
            left = began + (_LEAVE_SECONDS if all_leave else _GOODBYE_SECONDS) - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(min(left, _GOODBYE_SECONDS))

    def _close_listener(self) -> None:
        if self._listener.fileno() < 0:
            return
        path = self._listener.getsockname() if self._listener.family == socket.AF_UNIX else ""
        self._listener.close()
        if path and isinstance(path, str):
            try:
                os.unlink(path)
            except FileNotFoundError:
                log.debug("%s was already removed", path)

    # What the negotiation calls

    @property
    def is_full(self) -> bool:
        return 0 < self._max_connections <= len(self._clients)

    def accepted(self, sock: socket.socket, peer: str) -> Client:
        with self._changed:
            client = Client(sock, peer, self._count + 1)
            self._count += 1
            self._clients.add(client)
            if self._stopping:
                client.shutdown()
        return client

    def chosen(self, client: Client, agreement: Agreement) -> bool:
        """Count the client as a user of its export; return False if the export has been removed."""
        export = agreement.export
        with self._changed:
            if self._exports.get(export.name) is not export or self._stopping:
                return False
            client.counters = export.disk.accounts.open()
            client.export = export
        self._on_change()
        return True

    def agreed(self, client: Client, agreement: Agreement) -> None:
        """Give a client to the loop of its disk."""
        NBD_NEGOTIATE_SUCCESS("client=%s export=%s", client.peer, agreement.export.name)
        connection = Connection(client.socket, agreement, client.counters, limits=self._limits)
        gate = agreement.export.disk.gate

        def ended(error: BaseException | None) -> None:
            connection.close()
            self.left(client, error)

        with self._changed:
            loop = self._loops.get(gate)
            if loop is not None and loop.add(connection, ended):
                return
            self._loops = {known: other for known, other in self._loops.items() if not other.is_over}
            loop = self._loops[gate] = DiskLoop(gate)
            loop.add(connection, ended)
            try:
                loop.start()
            except BaseException:
                del self._loops[gate]
                connection.close()
                raise

    def starts_tls(self, client: Client, handshake: Handshake, seconds: float) -> None:
        """Serve a client in a thread of its own from its handshake of TLS on."""
        name = f"nbd client {client.number}"
        deadline = time.monotonic() + seconds
        client.thread = threading.Thread(
            target=self._serve_secured, args=(client, handshake, deadline), name=name, daemon=True
        )
        start_thread(client.thread)

    def left(self, client: Client, error: BaseException | None) -> None:
        """Log why a client was disconnected, if it was, and forget it. For any thread of the server."""
        if isinstance(error, ProtocolError):
            log.warning("NBD client %s was disconnected: %s", client.peer, error)
        elif isinstance(error, OSError | MemoryError):
            log.info("the connection of NBD client %s was lost: %s", client.peer, explain(error, "client"))
        elif error is not None:
            log.error("NBD client %s was disconnected by an internal error", client.peer, exc_info=error)
        if client.secured is not None:
            tls.close(client.secured)
        with self._changed:
            self._clients.discard(client)
            if client.export is not None:
                client.export.disk.accounts.close(client.counters)
            self._changed.notify_all()
            client.socket.close()
            if self._max_connections and not self._stopping:
                self._negotiation.wake()
        if client.export is not None:
            self._on_change()

    def _serve_secured(self, client: Client, handshake: Handshake, deadline: float) -> None:
        try:
            agreement = self._shake_hands(client, handshake, deadline)
            if agreement is not None:
                connection = Connection(client.wire, agreement, client.counters, limits=self._limits)
                try:
                    connection.run()
                finally:
                    connection.close()
        except Exception as error:  # noqa: BLE001 - it ends this client alone, and is logged
            self.left(client, error)
        else:
            self.left(client, None)

    def _shake_hands(self, client: Client, handshake: Handshake, deadline: float) -> Agreement | None:
        """Do the handshakes of TLS and of NBD; return None if the client has left. Raises as ``secure``."""
        assert self._security is not None
        client.secured = secure(client.socket, handshake, self._security, deadline - time.monotonic())
        data = b""
        while True:
            reply = handshake.feed(data)
            agreement = handshake.agreement
            if agreement is not None and not self.chosen(client, agreement):
                return None
            left = deadline - time.monotonic()
            if left <= 0:
                seconds = self._limits.handshake_seconds
                raise TimeoutError(errno.ETIMEDOUT, f"no export chosen within {seconds:.0f} s")
            client.wire.settimeout(left)
            client.wire.sendall(reply)
            if agreement is not None:
                client.wire.settimeout(None)
                NBD_NEGOTIATE_SUCCESS("client=%s export=%s", client.peer, agreement.export.name)
                return agreement
            if handshake.finished:
                break
            data = b""
            if not reply:
                data = client.wire.recv(_HANDSHAKE_PIECE)
                if not data:
                    break
        tell_refusal(client, handshake)
        return None
