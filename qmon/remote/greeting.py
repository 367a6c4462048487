"""Connects to a monitor and waits for its greeting, which it does not send while another program holds it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from qmon.errors import QmonError, reason
from qmon.host.sockets import connect
from qmon.notation.address import InetAddress, UnixAddress
from qmon.notation.strangers import FIRST_BYTES
from qmon.remote.address import Descriptor, Socket
from qmon.remote.secured import Secure, Secured
from qmon.remote.wrong_peer import is_event

T = TypeVar("T")

SILENCE_SECONDS = 1.0
"""After this time without a greeting the person is told."""
GIVE_UP_SECONDS = 10.0
"""After this time without a greeting a script fails."""

_LOOKS, _LOOK_SECONDS = 10, 0.02

_LONGEST_EVENT = 64 << 10
"""Bytes of an event that is passed over."""

_MOST_EVENTS = 100
"""The most events that are passed over."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection waits for a greeting."""

    tell: Callable[[str], None] = lambda text: None
    """Is told once, after a second, why nothing happens."""
    seconds: float | None = GIVE_UP_SECONDS
    """None: for ever; a monitor greets when the program that holds it leaves."""


async def greeted(
    place: Socket, patience: Patience, option: str, secure: Secure | None = None
) -> tuple[socket.socket, bytes]:
    """Return a connected socket and a copy of the first bytes in it. Raises QmonError in one line.

    Events before the greeting are passed over: a QEMU still sends those of the client before. ``option`` is
    QEMU's option that opens another such monitor, ``-qmp``. With ``secure`` the connection is
    under TLS, and the socket is the plain end of it.
    """
    sock: socket.socket | None = None
    secured: Secured | None = None
    try:
        if isinstance(place, UnixAddress):  # connecting waits, too, while many wait for a held monitor
            sock = await _patiently(place, _connected(place), patience, option)
        else:
            sock = await _connected(place)
        if secure is not None:
            raw, sock = sock, None  # it is closed if there is no TLS
            secured = await asyncio.to_thread(secure, raw)
            sock = secured.local
        first = await _patiently(place, _first_bytes(sock), patience, option)
        for _ in range(_MOST_EVENTS):
            if not is_event(first):
                break
            await _patiently(place, _skip_line(sock), patience, option)
            first = await _patiently(place, _first_bytes(sock), patience, option)
        if not first:
            why = "" if secured is None else secured.why
            raise QmonError(why or "the other end closed the connection at once")
    except OSError as error:
        if sock is not None:
            sock.close()
        raise QmonError(reason(error)) from error
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    return sock, first


def held(option: str) -> str:
    """Say why a monitor does not greet, and what helps."""
    return (
        "no greeting: another program holds this monitor, which serves one client at a time."
        f" End that program, or start QEMU with a second {option}"
        " (Proxmox: 'args:' in the VM's configuration; Incus: 'raw.qemu')"
    )


async def _patiently(place: Socket, waiting: Awaitable[T], patience: Patience, option: str) -> T:
    why = held(option)
    if isinstance(place, InetAddress):
        why += ". A server that wants TLS is silent, too: then add ,tls-creds=ID to the address"
    task = asyncio.ensure_future(waiting)
    limit = patience.seconds
    try:
        done, _ = await asyncio.wait([task], timeout=SILENCE_SECONDS)
        if not done and limit is None:
            patience.tell(f"{place}: {why}. Waiting until it greets; Ctrl-C gives up")
            await asyncio.wait([task])
        elif not done and limit is not None:
            done, _ = await asyncio.wait([task], timeout=max(limit - SILENCE_SECONDS, 0))
            if not done:
                raise QmonError(f"{why}. Gave up after {limit:g} s")
        return task.result()
    finally:
        if not task.done():
            task.cancel()


async def _connected(place: Socket) -> socket.socket:
    if isinstance(place, Descriptor):
        try:
            return socket.socket(fileno=place.number)
        except OSError as error:
            raise QmonError(f"descriptor {place.number} is no socket: {reason(error)}") from error
    given_up = threading.Event()

    def check() -> None:
        if given_up.is_set():
            raise ConnectionAbortedError

    address = place
    if isinstance(place, InetAddress) and not place.host:
        address = InetAddress("localhost", place.port)
    try:
        return await asyncio.to_thread(connect, address, check=check)
    except asyncio.CancelledError:
        given_up.set()
        raise


async def _skip_line(sock: socket.socket) -> None:
    """Read a line. Raises QmonError if it is longer than an event."""
    loop = asyncio.get_running_loop()
    for _ in range(_LONGEST_EVENT):
        if await loop.sock_recv(sock, 1) in (b"\n", b""):
            return
    raise QmonError(f"an event before the greeting has more than {_LONGEST_EVENT} bytes")


async def _first_bytes(sock: socket.socket) -> bytes:
    """Wait for data; return a copy of the first of it, b"" at the end of the connection."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
    for _ in range(_LOOKS):
        first = sock.recv(FIRST_BYTES, socket.MSG_PEEK)
        if not first or len(first) == FIRST_BYTES or b"\n" in first:
            break
        await asyncio.sleep(_LOOK_SECONDS)  # a greeting may come in pieces
    return first
