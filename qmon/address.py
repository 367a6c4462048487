"""Where something listens or is reached: the addresses of QAPI's ``SocketAddress``, and their short forms.

``tcp:HOST:PORT``, ``unix:PATH`` and plain ``HOST:PORT`` are the short forms; ``to_qapi`` and ``from_qapi``
give and take the flat union of qapi/sockets.json.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qmon.errors import CommandError, UsageError, reason

UNIX_PATH_MAX = 107
PORT_MAX = 65535

CONNECT_CHECK_SECONDS = 0.1

BACKLOG = 128
"""Connections that may wait to be accepted: a burst of others keeps nobody out."""


@dataclass(frozen=True, slots=True)
class InetAddress:
    """A TCP address; ``host`` "" is left to who uses it, ``port`` is a number or a service name."""

    host: str
    port: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def to_qapi(self) -> dict[str, str]:
        return {"type": "inet", "host": self.host, "port": self.port}


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket's path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    def to_qapi(self) -> dict[str, str]:
        return {"type": "unix", "path": self.path}


Address = InetAddress | UnixAddress


def parse_inet(text: str) -> InetAddress:
    """Read ``HOST:PORT`` or ``[HOST]:PORT``, options behind a comma left off. Raises UsageError."""
    bare = text.partition(",")[0]
    if bare.startswith("["):
        host, bracket, port = bare[1:].partition("]:")
        good = bool(bracket)
    else:
        host, colon, port = bare.partition(":")
        good = bool(colon)
    if not good or not port:
        raise UsageError(f"error parsing address '{text}'")
    return InetAddress(host, port)


def parse_unix(path: str) -> UnixAddress:
    """Check a Unix socket's path. Raises UsageError."""
    if not path:
        raise UsageError("UNIX socket path is missing: write unix:PATH")
    if len(os.fsencode(path)) > UNIX_PATH_MAX:
        raise UsageError(f"UNIX socket path '{path}' is too long: at most {UNIX_PATH_MAX} bytes fit")
    return UnixAddress(path)


def parse_address(text: str) -> Address:
    """Read ``tcp:HOST:PORT``, ``unix:PATH`` or ``HOST:PORT``. Raises UsageError with QEMU's words."""
    if text == "unix:":
        raise UsageError("invalid Unix socket address")
    if text.startswith("unix:"):
        return parse_unix(text.removeprefix("unix:"))
    return parse_inet(text.removeprefix("tcp:"))


def from_qapi(value: Mapping[str, object]) -> Address:
    """Read a ``SocketAddress``, flat or of the older form ``{type, data}``. Raises CommandError."""
    kind = value.get("type")
    data = value.get("data", value)
    fields = data if isinstance(data, Mapping) else {}
    prefix = "addr.data." if "data" in value else "addr."
    match kind:
        case "inet":
            for key in ("host", "port"):
                if not isinstance(fields.get(key), str):
                    raise CommandError(f"Parameter '{prefix}{key}' is missing")
            return InetAddress(str(fields["host"]), str(fields["port"]))
        case "unix":
            if not isinstance(fields.get("path"), str):
                raise CommandError(f"Parameter '{prefix}path' is missing")
            return parse_unix(str(fields["path"]))
        case None:
            raise CommandError("Parameter 'addr.type' is missing")
        case _:
            raise CommandError(f"Parameter 'addr.type' does not accept value '{kind}': use inet or unix")


def resolve(address: InetAddress, *, passive: bool) -> tuple[int, tuple[str, int]]:
    """Resolve to one (address family, socket address).

    An empty host is every IPv4 address to a listener and loopback to a client. Raises UsageError.
    """
    if address.port.isdecimal() and int(address.port[-20:]) > PORT_MAX:
        # the resolver would take it modulo 65536, and a disk would go to another port than the one written
        raise UsageError(f"address resolution failed for {address}: a port is at most {PORT_MAX}")
    host = address.host or ("0.0.0.0" if passive else "127.0.0.1")
    flags = socket.AI_PASSIVE if passive else 0
    try:
        found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=flags)
    except (socket.gaierror, UnicodeError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"address resolution failed for {address}: {text}") from error
    family, _, _, _, sockaddr = found[0]
    return family, (str(sockaddr[0]), int(sockaddr[1]))


def connect(
    address: Address, timeout: float = 60.0, check: Callable[[], None] = lambda: None
) -> socket.socket:
    """Connect within ``timeout`` seconds; the socket is a blocking one.

    ``check`` is called now and then while it lasts, and may raise. Raises OSError or UsageError.
    """
    if isinstance(address, UnixAddress):
        sock = socket.socket(socket.AF_UNIX)
        target: str | tuple[str, int] = address.path
    else:
        family, target = resolve(address, passive=False)
        sock = socket.socket(family)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(target)
        deadline = time.monotonic() + timeout
        while code in (errno.EINPROGRESS, errno.EAGAIN):
            check()
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            if code == errno.EAGAIN:  # a Unix socket whose backlog is full
                time.sleep(CONNECT_CHECK_SECONDS)
                code = sock.connect_ex(target)
            elif select.select([], [sock], [], CONNECT_CHECK_SECONDS)[1]:
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        sock.setblocking(True)
        if isinstance(address, InetAddress):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(address: Address) -> socket.socket:
    """Bind and listen. Raises OSError or UsageError; a Unix socket of a dead process is replaced."""
    if isinstance(address, UnixAddress):
        _remove_dead_socket(address.path)
        sock = socket.socket(socket.AF_UNIX)
        target: str | tuple[str, int] = address.path
    else:
        family, target = resolve(address, passive=True)
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(target)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_failure(address: Address, error: OSError) -> str:
    """Say, in QEMU's words, why nothing can listen there."""
    if isinstance(address, UnixAddress):
        return f"Failed to bind socket to {address.path}: {reason(error)}"
    if error.errno == errno.EADDRINUSE:
        return f"Failed to find an available port: {reason(error)}"
    return f"Failed to bind socket: {reason(error)}"


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this host can reach a listening TCP socket."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def _remove_dead_socket(path: str) -> None:

    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return  # bind() says what is wrong with it
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a live one whose backlog is full would keep us waiting
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
