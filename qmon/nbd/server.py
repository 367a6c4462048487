"""The NBD server: exports under names, a listener, and one blocking thread for each client."""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from qmon.block.accounts import Counters
from qmon.errors import CommandError, reason
from qmon.host.threads import Shortage, start_thread
from qmon.host.trace import NBD_NEGOTIATE_SUCCESS
from qmon.nbd import connection
from qmon.nbd.constants import MAX_STRING
from qmon.nbd.export import Disk, Export
from qmon.nbd.handshake import Agreement, Handshake, ProtocolError

__all__ = ["ClientInfo", "Disk", "Export", "NbdServer"]

log = logging.getLogger("qmon.nbd")

UNIX_SEND_BUFFER = 1 << 20
"""1 MiB reads were up to twice as fast as with Linux's default of 208 KiB. TCP adapts its buffers itself."""
_HANDSHAKE_PIECE = 4096
_CREDENTIALS = struct.Struct("3i")
"""unix(7), SO_PEERCRED: process, user and group."""
_ACCEPT_RETRY_SECONDS = 0.5
"""How long to wait after a client could not be accepted, mostly for lack of descriptors."""
_GOODBYE_SECONDS = 0.25
"""How long to wait for clients that are just disconnecting before they count as users."""
_LEAVE_SECONDS = 5.0
"""How long to wait for a client that has closed its end while its last requests are served."""


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A client that uses an export: its number on this server, its address, and what it has done.

    ``address`` is ``HOST:PORT``, or such as ``process 4711`` for a client on a Unix socket. ``connected`` is
    when it connected, by ``time.monotonic``. ``counters`` are its own; its thread goes on writing them.
    """

    number: int
    export: str
    address: str
    connected: float
    counters: Counters


class _Client:
    """A connected socket, the thread that serves it, the export it chose, and its counters there."""

    def __init__(self, sock: socket.socket, peer: str, number: int) -> None:
        self.socket = sock
        self.peer = peer
        self.number = number
        self.address = _address(sock)
        self.connected = time.monotonic()
        self.thread: threading.Thread | None = None
        self.export: Export | None = None
        self.counters = Counters()

    def describe(self, export: Export) -> ClientInfo:
        return ClientInfo(self.number, export.name, self.address, self.connected, self.counters)

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """Wake the thread from any wait on the socket. Call it with the server's lock held."""
        try:
            self.socket.shutdown(how)
        except OSError as error:
            log.debug("client %s had already disconnected: %s", self.peer, reason(error))

    def has_closed(self) -> bool:
        """Whether the client has closed its end. Call it with the server's lock held."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        return bool(poll.poll(0))


class NbdServer:
    """Serves exports to the clients of one listening socket, which it owns.

    Methods may be called from any thread except the server's own. Those that wait for threads say so.
    """

    def __init__(
        self,
        listener: socket.socket,
        max_connections: int = 0,
        on_change: Callable[[], None] | None = None,
        limits: connection.Limits = connection.LIMITS,
    ) -> None:
        """``max_connections`` 0 means no limit; clients above it wait until one disconnects, as in QEMU.

        ``on_change`` is called, from any thread, when an export or a client is added or removed.
        """
        self._listener = listener
        self._max_connections = max_connections
        self._on_change = on_change or (lambda: None)
        self._limits = limits
        self._changed = threading.Condition()
        self._exports: Mapping[str, Export] = MappingProxyType({})
        self._clients: set[_Client] = set()
        self._count = 0
        self._stopping = False
        self._acceptor = threading.Thread(target=self._accept, name="nbd accept", daemon=True)

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
        _join(users)
        self._on_change()

    def drop(self, name: str) -> None:
        """Disconnect the clients of an export whose gate was shut because its disk has moved.

        Pending requests fail with ESHUTDOWN; then each connection closes. Does not wait.
        Raises CommandError if there is no such export.
        """
        with self._changed:
            for client in self._users(self._get(name)):
                client.shutdown(socket.SHUT_RD)

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
            self._stopping = True
            self._changed.notify_all()
            clients = list(self._clients)
            for client in clients:
                client.shutdown()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            log.debug("the listener was already closed: %s", reason(error))
        if self._acceptor.ident is not None:
            self._acceptor.join()
        _join(clients)
        self._close_listener()

    def _get(self, name: str) -> Export:
        try:
            return self._exports[name]
        except KeyError:
            raise CommandError(f"Export '{name}' is not found") from None

    def _users(self, export: Export) -> list[_Client]:
        return [client for client in self._clients if client.export is export]

    def _see_off(self, export: Export) -> None:
        """Wait for the threads of clients that have just disconnected: they must not count as users."""
        began = time.monotonic()
        while users := self._users(export):
            all_closed = all(client.has_closed() for client in users)
            left = began + (_LEAVE_SECONDS if all_closed else _GOODBYE_SECONDS) - time.monotonic()
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

    def _accept(self) -> None:
        shortage = Shortage(log, "can't accept an NBD client")
        while True:
            with self._changed:
                while self._max_connections and len(self._clients) >= self._max_connections:
                    if self._stopping:
                        return
                    self._changed.wait()
            try:
                sock, address = self._listener.accept()
            except (OSError, MemoryError) as error:
                with self._changed:
                    if self._stopping:
                        return
                    shortage.tell(error)
                    self._changed.wait(_ACCEPT_RETRY_SECONDS)
                continue
            try:
                self._add_client(sock, str(address))
                shortage.over()
            except (OSError, MemoryError) as error:
                shortage.tell(error)
                sock.close()

    def _add_client(self, sock: socket.socket, address: str) -> None:
        with self._changed:
            if self._stopping:
                sock.close()
                return
            self._count += 1
            client = _Client(sock, address or f"number {self._count}", self._count)
            thread = threading.Thread(
                target=self._run, args=(client,), name=f"nbd client {self._count}", daemon=True
            )
            client.thread = thread
            # Inside the lock, so that the thread of every listed client can be joined.
            start_thread(thread)
            self._clients.add(client)

    def _run(self, client: _Client) -> None:
        try:
            _tune(client.socket)
            agreement = self._shake_hands(client)
            if agreement is not None:
                connection.serve(client.socket, agreement, client.counters, self._limits)
        except ProtocolError as error:
            log.warning("NBD client %s was disconnected: %s", client.peer, error)
        except (OSError, MemoryError) as error:
            log.info("the connection of NBD client %s was lost: %s", client.peer, reason(error))
        except Exception:
            log.exception("NBD client %s was disconnected by an internal error", client.peer)
        finally:
            self._remove_client(client)

    def _remove_client(self, client: _Client) -> None:
        with self._changed:
            self._clients.discard(client)
            if client.export is not None:
                client.export.disk.accounts.close(client.counters)
            self._changed.notify_all()
            client.socket.close()
        if client.export is not None:
            self._on_change()

    def _shake_hands(self, client: _Client) -> Agreement | None:
        """Do the handshake; return None if the client disconnected. Raises TimeoutError or ProtocolError."""
        handshake = Handshake(self.exports)
        seconds = self._limits.handshake_seconds
        deadline = time.monotonic() + seconds
        reply = handshake.greeting()
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(errno.ETIMEDOUT, f"no export chosen within {seconds:.0f} s")
            client.socket.settimeout(left)
            client.socket.sendall(reply)
            if handshake.finished:
                return None
            data = b""
            if not reply:
                data = client.socket.recv(_HANDSHAKE_PIECE)
                if not data:
                    return None
            reply = handshake.feed(data)
            agreement = handshake.agreement
            if agreement is not None:
                break
        if not self._attach(client, agreement.export):
            return None
        client.socket.sendall(reply)
        client.socket.settimeout(None)
        NBD_NEGOTIATE_SUCCESS("client=%s export=%s", client.peer, agreement.export.name)
        return agreement

    def _attach(self, client: _Client, export: Export) -> bool:
        """Count the client as a user of its export; return False if the export has been removed."""
        with self._changed:
            if self._exports.get(export.name) is not export or self._stopping:
                return False
            client.counters = export.disk.accounts.open()
            client.export = export
        self._on_change()
        return True


def _tune(sock: socket.socket) -> None:
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_SEND_BUFFER)
    else:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _address(sock: socket.socket) -> str:
    """Return the address of a client, "" if it has already disconnected."""
    try:
        if sock.family == socket.AF_UNIX:
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            return f"process {_CREDENTIALS.unpack(credentials)[0]}"
        host, port, *_ = sock.getpeername()
    except OSError as error:
        log.debug("the address of a client is not known: %s", reason(error))
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _join(clients: list[_Client]) -> None:
    for client in clients:
        if client.thread is not None:
            client.thread.join()
