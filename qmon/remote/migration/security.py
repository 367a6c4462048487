"""TLS between the two consoles, for all that goes from one to the other: messages, disks and memory.

The migration parameters ``tls-creds``, ``tls-hostname`` and ``tls-authz`` of each QEMU name objects of its
console. While the guest moves the QEMU has no ``tls-creds``: its ends of the connections are on its host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from qmon.errors import CommandError
from qmon.host.tls import Authorize, Tls
from qmon.notation.address import Address, InetAddress
from qmon.notation.plain_text import one_line
from qmon.remote.secured import Secure, Secured

TLS_CREDS = "tls-creds"


class Credentials(Protocol):
    """The objects of this console."""

    def has(self, id: str) -> bool:
        """Whether there is an object of this name."""

    def tls(self, id: str, *, is_server: bool) -> Tls:
        """Return the TLS of an object. Raises QmonError."""

    def authorization(self, tls: Tls, id: str | None) -> Authorize | None:
        """Return the check of a client's name by an object. Raises QmonError."""


def make_secure(
    credentials: Credentials | None, parameters: Mapping[str, Any], address: Address, *, is_server: bool
) -> Secure | None:
    """Return the TLS that a QEMU's migration parameters ask for, None without. Raises QmonError."""
    creds = str(parameters.get(TLS_CREDS) or "")
    if not creds:
        return None
    if not isinstance(address, InetAddress):
        raise CommandError(
            f"migration parameter tls-creds is '{one_line(creds)}', but a Unix socket has no TLS: use"
            " tcp:HOST:PORT, or clear the parameter with 'migrate_set_parameter tls-creds \"\"'"
        )
    if credentials is None or not credentials.has(creds):
        end = "server" if is_server else "client"
        raise CommandError(
            f"migration parameter tls-creds is '{one_line(creds)}', and this console has no such object:"
            f" start qmon with -object tls-creds-x509,id={one_line(creds)},endpoint={end},dir=DIR, or clear"
            " the parameter with 'migrate_set_parameter tls-creds \"\"'"
        )
    tls = credentials.tls(creds, is_server=is_server)
    if is_server:
        authorize = credentials.authorization(tls, str(parameters.get("tls-authz") or "") or None)
        return lambda sock: Secured(sock, tls, authorize=authorize)
    hostname = tls.server_name(str(parameters.get("tls-hostname") or "") or address.host or "localhost")
    return lambda sock: Secured(sock, tls, hostname)
