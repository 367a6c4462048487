"""Where a migration goes to or comes from: its URI (QAPI: migrate, "uri")."""

from __future__ import annotations

from dataclasses import dataclass

from qmon.errors import CommandError
from qmon.notation.address import Address, parse_address

LATER = ("exec", "fd", "file", "rdma", "x-rdma")


@dataclass(frozen=True, slots=True)
class Transport:
    """A migration's URI: as it is written, and the address that it names."""

    uri: str
    address: Address


def parse_uri(uri: str) -> Transport:
    """Read ``tcp:HOST:PORT`` or ``unix:PATH``; an empty HOST is every address to a listener.

    Raises CommandError with QEMU's words for what is no migration URI, UsageError for a bad address.
    """
    protocol, colon, _ = uri.partition(":")
    if colon and protocol in ("tcp", "unix"):
        return Transport(uri, parse_address(uri))
    if colon and protocol in LATER:
        raise CommandError(f"Migration by '{protocol}:' is not supported yet: use tcp:HOST:PORT or unix:PATH")
    raise CommandError("Parameter 'uri' expects a valid migration protocol")
