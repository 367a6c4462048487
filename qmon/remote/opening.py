"""Makes the connection for an address of ``-connect``."""

from __future__ import annotations

from collections.abc import Callable

from qmon.remote.address import Kind, RemoteAddress
from qmon.remote.connection import Connection
from qmon.remote.remote import Remote

_KINDS: dict[Kind, Callable[[RemoteAddress], Remote]] = {Kind.QMP: Connection}


def make_remote(address: RemoteAddress) -> Remote:
    """Return a connection that is not open yet."""
    return _KINDS[address.kind](address)
