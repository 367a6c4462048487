"""Listening and connecting sockets for an address."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from collections.abc import Callable

from qmon.errors import UsageError, reason
from qmon.notation.address import Address, InetAddress, UnixAddress, check_port

CONNECT_CHECK_SECONDS = 0.1

BACKLOG = 1024
"""Connections that may wait to be accepted. Linux allows at most 4096 unless told more."""

NUL = "\0"
"""The beginning of a name in Linux's abstract name space, and what fills it up."""

_FAMILIES = {"": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


def resolve(address: InetAddress, *, passive: bool) -> tuple[int, tuple[str, int]]:
    """Resolve an address; return one (address family, socket address).

    An empty host means every address of IPv4, or of ``family``, for a listener, and loopback for a client.
    Raises UsageError.
    """
    check_port(address)
    family = _FAMILIES[address.family]
    own, every = ("::1", "::") if family == socket.AF_INET6 else ("127.0.0.1", "0.0.0.0")
    host = address.host or (every if passive else own)
    flags = socket.AI_PASSIVE if passive else 0
    try:
        found = socket.getaddrinfo(host, address.port, family, type=socket.SOCK_STREAM, flags=flags)
    except (socket.gaierror, UnicodeError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"address resolution failed for {address.host}:{address.port}: {text}") from error
    found_family, _, _, _, sockaddr = found[0]
    return found_family, (str(sockaddr[0]), int(sockaddr[1]))


def connect(
    address: Address, timeout: float = 60.0, check: Callable[[], None] = lambda: None
) -> socket.socket:
    """Connect within ``timeout`` seconds; return a blocking socket.

    While it waits it calls ``check`` regularly, which may raise. Raises OSError or UsageError.
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
        if not address.path.startswith("\0"):
            _remove_dead_socket(address.path)
        return _listening(socket.AF_UNIX, address.path)
    family, (host, port) = resolve(address, passive=True)
    if 0 < address.to < port:
        raise UsageError(f"no port is free: 'to' is {address.to}, below the first port, {port}")
    while True:
        try:
            return _listening(family, (host, port), only_ipv6=address.family == "ipv6")
        except OSError as error:
            port += 1
            if port > address.to or error.errno != errno.EADDRINUSE:
                raise


def _listening(family: int, target: str | tuple[str, int], *, only_ipv6: bool = False) -> socket.socket:
    sock = socket.socket(family)
    try:
        if only_ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_failure(address: Address, error: OSError) -> str:
    """Return QEMU's message for a failure to listen at an address."""
    if isinstance(address, UnixAddress):
        return f"Failed to bind socket to {address.path.strip(NUL)}: {reason(error)}"
    if error.errno == errno.EADDRINUSE:
        return f"Failed to find an available port: {reason(error)}"
    return f"Failed to bind socket: {reason(error)}"


def _remove_dead_socket(path: str) -> None:

    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return  # bind() says what is wrong with it
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # connecting to a live socket with a full backlog would block
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
