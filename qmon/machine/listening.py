"""Listening sockets as QAPI writes them: the NBD server's from an address, and any one's own address."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qmon.chardev.passed import passed_socket
from qmon.errors import CommandError
from qmon.host.sockets import BACKLOG, bind_failure
from qmon.machine.machine import Machine
from qmon.notation.address import InetAddress, from_qapi

TakeDescriptor = Callable[[str], int]
"""Returns a passed descriptor by its name, and the caller owns it then. Raises CommandError."""


_WHAT = "the NBD server"


async def open_listener(
    machine: Machine, addr: Mapping[str, Any], take_descriptor: TakeDescriptor, *, has_tls: bool
) -> socket.socket:
    """Listen at a SocketAddressLegacy. An empty host is loopback; ``fd`` is a socket that a client passed.

    Raises CommandError, UsageError.
    """
    if addr.get("type") == "fd":
        name = addr["data"]["str"]
        listener = passed_socket(take_descriptor(name), name, is_server=True, backlog=BACKLOG)
        machine.exposure.note(listener, _WHAT, has_tls=has_tls)
        return listener
    address = from_qapi(addr)
    if isinstance(address, InetAddress) and not address.host:
        address = replace(address, host="::1" if address.family == "ipv6" else "127.0.0.1")
    try:
        return await machine.blocking(machine.exposure.listen, address, _WHAT, has_tls=has_tls)
    except OSError as error:
        raise CommandError(bind_failure(address, error)) from error


def qapi_address(listener: socket.socket) -> dict[str, Any]:
    """Return the address on which a socket listens, as QAPI's SocketAddress."""
    name = listener.getsockname()
    if isinstance(name, tuple):
        family = "ipv6" if listener.family == socket.AF_INET6 else "ipv4"
        return {"type": "inet", "host": name[0], "port": str(name[1]), family: True}
    if isinstance(name, bytes):  # in the abstract name space
        return {"type": "unix", "path": os.fsdecode(name).strip("\0"), "abstract": True}
    return {"type": "unix", "path": name}
