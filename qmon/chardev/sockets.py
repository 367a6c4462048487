"""Character devices on TCP and Unix sockets, listening or connecting."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

from qmon.chardev.base import Chardev
from qmon.chardev.passed import passed_socket
from qmon.chardev.secure import SecureEnd, Security, secure
from qmon.chardev.socket_calls import accept, ends
from qmon.chardev.socket_rules import check_address_options, check_side_options, reconnect_seconds
from qmon.chardev.stream import SocketStream, Stream
from qmon.errors import CommandError, QmonError, reason
from qmon.host.sockets import BACKLOG, NUL, bind_failure, resolve
from qmon.host.threads import Shortage
from qmon.host.tls import TlsError
from qmon.notation.address import UNIX_PATH_MAX, Address, InetAddress, UnixAddress, from_qapi

ACCEPT_RETRY_SECONDS = 0.5
"""How long to wait after a client could not be accepted, mostly for lack of descriptors."""
HANGUP_CHECK_SECONDS = 0.2
HANDSHAKES_MAX = 64
"""Clients that may be in the handshake of TLS at a time."""

_logger = logging.getLogger(__name__)


class SocketChardev(Chardev):
    """A socket. With a front end a server takes any number of clients, without one only one, as in QEMU."""

    kind = "socket"

    def __init__(self, label: str, data: Mapping[str, Any]) -> None:
        super().__init__(label, data)
        self.is_server = bool(data.get("server", True))
        self._telnet = bool(data.get("telnet"))
        self._is_unix = data["addr"]["type"] == "unix"
        self._listener: socket.socket | None = None
        self._security: Security | None = None
        self._greeting = asyncio.Semaphore(HANDSHAKES_MAX)
        self._local = ""
        self._path: str | None = None
        self._peers: dict[Stream, str] = {}
        self._had_peer = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def filename(self) -> str:
        prefix = self._prefix
        server = ",server=on" if self.is_server else ""
        connected = next(iter(self._peers.values()), None)
        if connected is None:
            return f"disconnected:{prefix}:{self._local}{server}"
        if prefix == "unix":
            return f"unix:{self._local if self.is_server else ''}{server}"
        return f"{prefix}:{connected}".replace(" <-> ", f"{server} <-> ")

    @property
    def _prefix(self) -> str:
        if self._is_unix:
            return "unix"
        return "telnet" if self._telnet else "tcp"

    @property
    def waits(self) -> bool:
        """Whether ``open`` waits for the first client."""
        return self.is_server and bool(self.data.get("wait", False))

    async def _open(self) -> None:
        self._check()
        if self._is_passed:
            sock = self._passed()
            if not self.is_server:
                self._take(sock)
                return
            self._listener = sock
            self.exposure.note(sock, self.shown, has_tls=self._has_tls)
        else:
            address = self._address()
            if not self.is_server:
                await self._reach(address)
                return
            self._listener = await self._listen(address)
        self._note_local(self._listener)
        self.spawn(self._accept_all(self._listener), "accepting")
        if self.waits:
            print(f"qmon: info: waiting for connection on: {self.filename}", file=sys.stderr, flush=True)
            await self._had_peer.wait()

    async def _reach(self, address: Address) -> None:
        """Connect, and again after the connection has ended if the options say so. Raises CommandError."""
        self._local = str(address) if isinstance(address, InetAddress) else address.path
        if pause_seconds := reconnect_seconds(self.data):
            self.spawn(self._keep_connected(address, pause_seconds), "connecting")
        else:
            await self._connect(address)

    @property
    def _is_passed(self) -> bool:
        """Whether the socket is a descriptor that was passed."""
        return bool(self.data["addr"]["type"] == "fd")

    def _passed(self) -> socket.socket:
        """Take the passed socket. Raises CommandError."""
        name = self.data["addr"]["data"]["str"]
        descriptor = self.take_descriptor(name)
        sock = passed_socket(descriptor, name, is_server=self.is_server, backlog=BACKLOG)
        self._is_unix = sock.family == socket.AF_UNIX
        return sock

    def _check(self) -> None:
        """Check the options, and find the objects of TLS. Raises CommandError."""
        check_address_options(self.data, is_server=self.is_server)
        if (creds := self.data.get("tls-creds")) is not None:
            self._security = self.find_security(creds, self.data.get("tls-authz"), self.is_server)
        check_side_options(self.data, is_server=self.is_server)

    @property
    def _has_tls(self) -> bool:
        return self._security is not None

    def _address(self) -> Address:
        fields = self.data["addr"]["data"]
        match self.data["addr"]["type"]:
            case "unix":
                path = fields["path"]
                if fields.get("abstract"):
                    path = "\0" + path
                    if not fields.get("tight", True):
                        path = path.ljust(UNIX_PATH_MAX + 1, "\0")
                elif len(path.encode("utf-8", "surrogateescape")) > UNIX_PATH_MAX:
                    raise CommandError(f"UNIX socket path '{path}' is too long")
                return UnixAddress(path)
            case _:
                return from_qapi(self.data["addr"])

    async def _listen(self, address: Address) -> socket.socket:
        try:
            listener = await asyncio.to_thread(
                self.exposure.listen, address, self.shown, has_tls=self._has_tls
            )
        except (QmonError, ValueError) as error:
            raise CommandError(reason(error)) from error
        except OSError as error:
            raise CommandError(bind_failure(address, error)) from error
        if isinstance(address, UnixAddress) and not address.path.startswith("\0"):
            self._path = os.path.join(os.getcwd(), address.path)  # the working folder may change
        return listener

    def _note_local(self, listener: socket.socket) -> None:
        """Note where the listener listens, for the device's name."""
        listener.setblocking(False)
        name = listener.getsockname()
        if listener.family != socket.AF_UNIX:
            host, port = name[:2]
            self._local = f"{host}:{port}"
            family = "ipv6" if listener.family == socket.AF_INET6 else "ipv4"
            bound = {"host": host, "port": str(port), family: True}
            self.data = {**self.data, "addr": {"type": "inet", "data": bound}}
        elif isinstance(name, bytes):  # in the abstract name space
            tight = "on" if self.data["addr"]["data"].get("tight", True) else "off"
            self._local = f"{os.fsdecode(name).strip(NUL)},abstract=on,tight={tight}"
        else:
            self._local = name

    async def _accept_all(self, listener: socket.socket) -> None:
        shortage = Shortage(_logger, f"can't accept a client on {self._local}")
        while True:
            await self._until_there_is_room()
            try:
                sock = await accept(listener)
                await self._admit(sock)
                shortage.over()
            except (OSError, MemoryError) as error:
                shortage.tell(error)
                await asyncio.sleep(ACCEPT_RETRY_SECONDS)

    async def _admit(self, sock: socket.socket) -> None:
        """Serve a client, after the handshake of TLS. Raises OSError, MemoryError."""
        if self._security is None:
            self._take(sock)
            return
        await self._greeting.acquire()
        if self.serve is None:  # it is the only client
            await self._secure_client(sock, self._security)
        else:
            self.spawn(self._secure_client(sock, self._security), "handshake")

    async def _secure_client(self, sock: socket.socket, security: Security) -> None:
        who = ends(sock)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._serve_peer(await secure(sock, security), who)
        except TlsError as error:
            _logger.warning("%s: a client was refused (%s): %s", self.shown, who, error)
        finally:
            self._greeting.release()

    async def _until_there_is_room(self) -> None:
        """Without a front end, wait until there is no client: others wait for their turn, as in QEMU."""
        while self.serve is None and self._peers:
            self._changed.clear()
            for stream in list(self._peers):
                if stream.hung_up:
                    self.release(stream)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HANGUP_CHECK_SECONDS):
                    await self._changed.wait()

    def _take(self, sock: socket.socket) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._serve_peer(sock, ends(sock))

    def _serve_peer(self, sock: socket.socket | SecureEnd, both_ends: str) -> None:
        stream = SocketStream(sock, telnet=self._telnet, tee=self.log)
        if self.is_server:
            stream.greet()
        self._peers[stream] = both_ends
        try:
            self.accept(stream)
        except BaseException:
            self.release(stream)
            raise
        self._had_peer.set()
        self._changed.set()

    def _lost(self, stream: Stream) -> None:
        self._peers.pop(stream, None)
        self._changed.set()

    def _attached(self) -> None:
        self._changed.set()

    async def _connect(self, address: Address) -> None:
        """Connect and serve the connection. Raises CommandError."""
        loop = asyncio.get_running_loop()
        sock = None
        target: str | tuple[str, int]
        try:
            if isinstance(address, UnixAddress):
                sock, target = socket.socket(socket.AF_UNIX), address.path
            else:
                await asyncio.to_thread(
                    self.exposure.check_connecting, address, self.shown, has_tls=self._has_tls
                )
                family, target = await asyncio.to_thread(resolve, address, passive=False)
                sock = socket.socket(family)
            sock.setblocking(False)
            await loop.sock_connect(sock, target)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if isinstance(error, OSError):
                why = os.strerror(error.errno) if error.errno else reason(error)  # not asyncio's text
                raise CommandError(f"Failed to connect to '{self._local}': {why}") from error
            raise
        await self._begin_conversation(sock, address)

    async def _begin_conversation(self, sock: socket.socket, address: Address) -> None:
        """Serve a connection that was made here, after the handshake of TLS. Raises CommandError."""
        if self._security is None or isinstance(address, UnixAddress):
            self._take(sock)
            return
        both_ends = ends(sock)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end = await secure(sock, self._security, address.host)
        except TlsError as error:
            raise CommandError(f"Failed to connect to '{self._local}': {error}") from error
        self._serve_peer(end, both_ends)

    async def _keep_connected(self, address: Address, pause_seconds: float) -> None:
        told = False
        while True:
            try:
                await self._connect(address)
                told = False
                while self._peers:
                    self._changed.clear()
                    await self._changed.wait()
            except QmonError as error:
                if not told:
                    _logger.warning("Unable to connect character device %s: %s", self.label, error)
                told = True
            await asyncio.sleep(pause_seconds)

    async def close(self) -> None:
        await super().close()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            if self._path is not None:
                try:
                    os.unlink(self._path)
                except OSError as error:
                    _logger.debug("the socket file %s was already removed: %s", self._path, reason(error))
