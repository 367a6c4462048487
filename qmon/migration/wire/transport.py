"""Reads a migration's URI, the address of the other side (QAPI: migrate, "uri")."""

from __future__ import annotations

from dataclasses import dataclass

from qmon.errors import CommandError
from qmon.notation.address import Address, parse_address

DEFER = "defer"
"""In the place of a URI: the destination gets it later, by migrate_incoming."""

LATER = ("exec", "fd", "file", "rdma", "x-rdma")


@dataclass(frozen=True, slots=True)
class Transport:
    """A migration's URI as written, and its address."""

    uri: str
    address: Address


def parse_uri(uri: str) -> Transport:
    """Read ``tcp:HOST:PORT`` or ``unix:PATH``; with an empty HOST a destination listens on all addresses.

    Raises CommandError if it is not a migration URI, UsageError for an invalid address.
    """
    protocol, colon, _ = uri.partition(":")
    if colon and protocol in ("tcp", "unix"):
        return Transport(uri, parse_address(uri))
    if colon and protocol in LATER:
        raise CommandError(f"Migration by '{protocol}:' is not supported yet: use tcp:HOST:PORT or unix:PATH")
    raise CommandError("Parameter 'uri' expects a valid migration protocol")
